"""The forwarder's question to the keeper: may these files leave the spool? Only once they are in the books."""

import itertools
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

SOCKET_NAME: Final = "quotas.sock"
TIMEOUT_S: Final = 10.0


class Gate:
    """One connection to the keeper; used by one thread."""

    def __init__(self, state_directory: Path) -> None:
        self._address = str(state_directory / SOCKET_NAME)
        self._connection: socket.socket | None = None
        self._lines: Any = None
        self._numbers = itertools.count(1)

    def may_leave(self, paths: Sequence[Path]) -> bool:
        """Whether the keeper has them in its books. False also when it does not answer: then ask again later."""
        return self._ask({"leaving": [str(path) for path in paths]})

    def release(self, names: Sequence[str]) -> bool:
        """Say that the files of these names were deleted."""
        return self._ask({"gone": list(names)})

    def look(self) -> None:
        """Say that somebody else changed the books."""
        self._ask({"changed": True})

    def _ask(self, message: dict[str, Any]) -> bool:
        number = next(self._numbers)
        try:
            if self._connection is None:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.settimeout(TIMEOUT_S)
                self._connection, self._lines = connection, connection.makefile("rb")
                connection.connect(self._address)
            self._connection.sendall(json.dumps(message | {"number": number}).encode() + b"\n")
            reply = json.loads(self._lines.readline() or b"{}")
        except (OSError, ValueError):
            reply = {}
        if reply.get("reply") != number:
            self.close()
            return False
        return bool(reply["ok"])

    def close(self) -> None:
        """Hang up; the next question connects again."""
        if self._connection is not None:
            self._lines.close()
            self._connection.close()
            self._connection = None
