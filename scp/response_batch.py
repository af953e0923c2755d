"""Responses that are sent together: a write for each would cost more than to find its match, and wake the peer up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# What is sent together at most, and how long ago the last of it was sent: a slow archive's matches go out one by one.
MAXIMUM_BATCH_BYTES: Final = 32 * 1024
MAXIMUM_PAUSE_S: Final = 0.05


class ResponseBatch:
    """The first response is sent alone, so that the peer hears of it at once, then as many as were sent before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._taken_at = clock()
        # Responses that were taken to be sent.
        self.taken = 0

    @property
    def responses(self) -> int:
        """How many were added."""
        return self.taken + len(self._held)

    @property
    def is_due(self) -> bool:
        """Whether it is time to send."""
        return (
            len(self._held) > self.taken
            or self._held_bytes > MAXIMUM_BATCH_BYTES
            or self._clock() - self._taken_at > MAXIMUM_PAUSE_S
        )

    def add(self, response: bytes) -> None:
        """Hold a response until it is taken with others."""
        self._held.append(response)
        self._held_bytes += len(response)

    def take(self) -> bytes:
        """What is to be sent now."""
        responses = b"".join(self._held)
        self.taken += len(self._held)
        self.clear()
        return responses

    def clear(self) -> None:
        """Forget what is not sent yet."""
        self._held.clear()
        self._held_bytes = 0
        self._taken_at = self._clock()
