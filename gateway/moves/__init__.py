"""Retrievals: what is to be sent where, and who does the sending."""
