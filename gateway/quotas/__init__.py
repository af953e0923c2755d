"""Quotas: who may have how much stored, counted exactly over all workers and gateways. See docs/architecture.md."""
