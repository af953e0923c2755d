"""What a script has registered: one callback of each kind, as in the plugin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.script_host.kinds import Kind

Callback = Callable[..., Any]


@dataclass(frozen=True)
class Registration:
    """The functions of one kind, under the name of what registered them.

    `has_connection`: the `2` and `3` forms of plugin 7.0, which get a connection object.
    """

    name: str
    functions: tuple[Callback, ...]
    has_connection: bool = False


class Registrations:
    """By kind; `on_change` apart, because nobody waits for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_kind: dict[Kind, Registration] = {}
        self._listeners: list[Callable[[], None]] = []
        self.on_change: Callback | None = None

    def add(self, kind: Kind, registration: Registration) -> None:
        """Keep a registration. Raises RuntimeError for a second one, as the plugin does."""
        with self._lock:
            if kind in self._by_kind:
                raise RuntimeError(f"Can only register one Python callback for {kind.text}")
            self._by_kind[kind] = registration
        for listener in list(self._listeners):
            listener()

    def of(self, kind: Kind) -> Registration | None:
        """What is registered, if anything is."""
        return self._by_kind.get(kind)

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that have a callback."""
        with self._lock:
            return list(self._by_kind)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something is registered."""
        self._listeners.append(listener)
