"""DIMSE services over pynetdicom. The only package that imports it."""
