"""A script written for Orthanc's Python plugin, in a process of its own: its DICOM callbacks, called from here."""
