"""Alembic's environment for the migrations of all rooms (gateway.database.migrate)."""
