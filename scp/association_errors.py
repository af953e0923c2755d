"""What can go wrong with an association and with a request on it: one exception for each phase."""

from typing import Final

from scp.upper_layer import End

# PS3.8 table 9-21: results, and by source the reasons.
_RESULTS: Final = {1: "permanently", 2: "for now"}
_REJECTION_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_SOURCES: Final = {1: "service user", 2: "service provider, ACSE", 3: "service provider, presentation"}
# PS3.8 table 9-26: source of an A-ABORT, and the reasons of a service provider.
_ABORT_SOURCES: Final = {0: "service user", 2: "service provider"}
_ABORT_REASONS: Final = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class AssociationError(Exception):
    """Base: the association could not be opened, or has ended. The text says why."""


class HostNotFound(AssociationError):
    """The name of the host has no address."""


class ConnectionFailed(AssociationError):
    """No TCP connection: refused, or no way there."""


class TlsFailed(AssociationError):
    """The TLS handshake failed, or a certificate was not accepted."""


class AssociationTimedOut(AssociationError):
    """The peer did not connect, answer, or read in time."""


class AssociationRejected(AssociationError):
    """A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        text = _REJECTION_REASONS.get((source, reason), f"reason {reason}")
        super().__init__(f"rejected {_RESULTS.get(result, '')} by the {_SOURCES.get(source, source)}: {text}")
        self.result = result
        self.source = source
        self.reason = reason


class NoContextAccepted(AssociationError):
    """The peer accepted the association, but none of its presentation contexts."""


class AssociationAborted(AssociationError):
    """A-ABORT of the peer. `reason` is significant for source 2 only (PS3.8 table 9-26)."""

    def __init__(self, source: int, reason: int) -> None:
        text = f": {_ABORT_REASONS.get(reason, reason)}" if source == 2 else ""
        super().__init__(f"aborted by the peer ({_ABORT_SOURCES.get(source, source)}{text})")
        self.source = source
        self.reason = reason


class ConnectionLost(AssociationError):
    """The connection broke, or the peer closed or released it, without an answer."""


class PeerBrokeProtocol(AssociationError):
    """The peer sent what it may not, and was aborted."""


class ContextNotAccepted(Exception):
    """The association has no presentation context for this request. It goes on; nothing was sent."""


class DataSetUnavailable(Exception):
    """Our own source of a data set failed.

    The association goes on if nothing was sent (`is_closed` of its upper layer says it), else it was aborted.
    """


def error_of(end: End | None, reason: str, doing: str) -> AssociationError:
    """Return the exception for a connection that ended while `doing` something."""
    if end is End.SILENT:
        return AssociationTimedOut(f"timed out {doing}" + (f": {reason}" if reason else ""))
    if end is End.INVALID:
        return PeerBrokeProtocol(f"the peer broke the protocol {doing}: {reason}")
    return ConnectionLost(f"connection lost {doing}" + (f": {reason}" if reason else ""))
