"""The groups of commands of `dicom-gateway`."""
