"""The query index: which patients, studies and series of Orthanc may match. What they are, Orthanc says itself."""
