"""The history of the quotas' tables: the branch "quotas" (gateway.database)."""
