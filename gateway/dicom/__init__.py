"""DICOM's encodings: files, data sets, character sets, transfer syntaxes."""
