"""What `dicom-gateway check` says, and what must hold at a start."""
