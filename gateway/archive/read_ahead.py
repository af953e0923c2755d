"""Instances in order, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Self

from gateway.archive.interface import (
    ArchiveUnavailable,
    CannotTranscode,
    EncodedInstance,
    Fetched,
    InstanceReference,
    Wanted,
)

Open = Callable[[InstanceReference, str | None], AbstractContextManager[EncodedInstance]]


class OneByOne:
    """A ReadAhead (gateway.archive.interface) that opens each instance when it is asked for."""

    def __init__(self, open_instance: Open, wanted: Iterable[Wanted]) -> None:
        self._open = open_instance
        self._wanted = iter(wanted)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Fetched:
        self._stack.close()
        instance, transfer_syntax_uid = next(self._wanted)
        try:
            return Fetched(instance, self._stack.enter_context(self._open(instance, transfer_syntax_uid)))
        except (ArchiveUnavailable, CannotTranscode) as error:
            return Fetched(instance, None, error)

    def close(self) -> None:
        """See ReadAhead."""
        self._wanted = iter(())
        self._stack.close()
