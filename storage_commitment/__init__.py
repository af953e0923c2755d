"""Storage commitment (PS3.4 Annex J): transactions, verification, reports."""
