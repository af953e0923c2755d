"""Alembic's revisions of the tables of the messages to the RIS."""
