"""Identifiers of patients: CX (HL7 2.5.1, 2.A.14)."""

from worklist.orders.reader import Value


def is_same_authority(authority: Value, name: str) -> bool:
    """Whether an assigning authority (HD) is called so: by its namespace or by its universal identifier."""
    return name in (authority.text(1), authority.text(2))
