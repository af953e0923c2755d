"""What can go wrong between us and a DICOMweb server. Texts are for the log and for the peer's Error Comment."""

from http.client import responses
from typing import Final

UNAUTHORIZED: Final = frozenset((401, 403, 407))


class DicomWebError(Exception):
    """No usable answer."""


class ServerUnreachable(DicomWebError):
    """Refused, broken, timed out, or no token to be had: it may go better later."""


class BadAnswer(DicomWebError):
    """An answer that is too large or not what the standard says."""


class HttpStatusError(DicomWebError):
    """An answer with a status that means failure."""

    def __init__(self, status: int, what: str, explanation: str = "") -> None:
        phrase = responses.get(status, "")
        text = f"HTTP {status}{' ' * bool(phrase)}{phrase} to {what}"
        super().__init__(f"{text}: {explanation}" if explanation else text)
        self.status = status

    @property
    def is_unauthorized(self) -> bool:
        """Whether it is our credentials that are not enough."""
        return self.status in UNAUTHORIZED
