"""The configuration: Orthanc's options and ours, validated."""
