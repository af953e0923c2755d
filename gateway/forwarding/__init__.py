"""The forwarder: drains the spool into Orthanc, at least once, in order per SOP Instance UID, for ever if need be."""
