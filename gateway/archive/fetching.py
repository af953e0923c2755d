"""What all that reads ahead has in common: one thread iterates, any thread ends it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self

from gateway.archive.interface import Fetched


class Fetching(ABC):
    """Iteration and end of a ReadAhead (gateway.archive.interface)."""

    def __init__(self) -> None:
        self._in_use = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Fetched:
        try:
            with self._in_use:
                fetched = None if self._closed.is_set() else self._fetch_next()
        finally:
            if self._closed.is_set():
                self.close()  # also what was begun meanwhile
        if fetched is None:
            self.close()
            raise StopIteration
        return fetched

    @abstractmethod
    def _fetch_next(self) -> Fetched | None:
        """The next instance; None at the end. Called by one thread, which holds `_in_use`."""

    @abstractmethod
    def close(self) -> None:
        """See ReadAhead. Sets `_closed`; called from any thread, more than once."""
