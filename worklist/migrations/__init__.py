"""The history of the worklist's tables: the branch "worklist" (gateway.database)."""
