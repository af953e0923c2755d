"""The process that starts, watches and stops all others, and accepts DICOM connections."""
