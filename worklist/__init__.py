"""Modality worklist: orders in (HL7 v2), worklist items, who matches a query, procedure steps (MPPS)."""
