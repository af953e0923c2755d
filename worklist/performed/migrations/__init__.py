"""The history of these tables: the branch "performed" (gateway.database)."""
