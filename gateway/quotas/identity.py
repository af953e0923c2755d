"""The name under which a gateway stands in the books: that of its state directory."""

import secrets
from pathlib import Path
from typing import Final

from gateway.durable import write_file

FILE_NAME: Final = "gateway-id"


def gateway_identity(state_directory: Path) -> str:
    """Return the name; made at the first call, which is the supervisor's. Raises OSError."""
    path = state_directory / FILE_NAME
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        name = secrets.token_hex(8)
        write_file(path, name.encode() + b"\n")
        return name
