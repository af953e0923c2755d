"""What modalities did: performed procedure steps (MPPS), received images, and who asked for the worklist."""
