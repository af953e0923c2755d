"""What the tests talk to: a real Orthanc, DCMTK's tools, the gateway's processes, sample images."""
