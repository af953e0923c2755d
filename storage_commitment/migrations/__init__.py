"""Alembic's migrations of the tables of storage commitment."""
