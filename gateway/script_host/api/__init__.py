"""What a script imports as `orthanc`."""
