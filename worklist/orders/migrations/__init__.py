"""Alembic's branch `orders`."""
