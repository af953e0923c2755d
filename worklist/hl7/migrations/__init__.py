"""Alembic's revisions of the tables of the HL7 listener."""
