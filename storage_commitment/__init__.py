"""Storage commitment (PS3.4 Annex J): transactions, who verifies them, reports in both directions."""
