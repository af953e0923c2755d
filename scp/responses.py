"""Responses that go out one after the other, to a peer that is listened to in between."""

import time

from scp.peer_writer import PeerWriter
from scp.upper_layer import SEND_TIMEOUT_S, UpperLayer


class Responses:
    """Those to one request, on the association's thread."""

    def __init__(self, upper_layer: UpperLayer) -> None:
        self._upper_layer = upper_layer
        self._writer = PeerWriter(upper_layer, SEND_TIMEOUT_S)

    @property
    def is_associated(self) -> bool:
        """False after A-ABORT, a lost connection, and A-RELEASE-RQ, which does not wait for the last response."""
        return bool(self._upper_layer.state_machine.current_state == "Sta6")

    def listen(self) -> None:
        """Read what the peer has said: C-CANCEL, A-ABORT, A-RELEASE-RQ. Does not wait if it said nothing."""
        while self.is_associated and self._upper_layer.has_input:
            self._upper_layer.step(time.monotonic() + SEND_TIMEOUT_S)

    def send(self, pdus: bytes) -> None:
        """Write whole PDUs."""
        # while we wait to write, a response to another request must not get in between
        self._upper_layer.hold()
        try:
            self._writer.write(pdus)
        finally:
            self._upper_layer.unhold()
