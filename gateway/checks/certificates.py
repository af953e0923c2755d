"""What stands in certificate files, for a person: subjects, and until when they are valid."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

# Time enough to have a certificate issued anew.
EXPIRY_WARNING: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate; times are UTC."""

    subject: str
    not_before: datetime
    not_after: datetime

    def trouble(self, now: datetime) -> str:
        """Return why it cannot be used `now`, or not for long; "" if all is well."""
        if now < self.not_before:
            return f"is not valid before {self.not_before:%Y-%m-%d}"
        if now > self.not_after:
            return f"has expired on {self.not_after:%Y-%m-%d}"
        if now > self.not_after - EXPIRY_WARNING:
            return f"expires in {(self.not_after - now).days} days"
        return ""

    def is_valid(self, now: datetime) -> bool:
        """Whether a peer may accept it `now`."""
        return self.not_before <= now <= self.not_after


def read(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file, the first of a chain first. Raises OSError, and ValueError for no PEM."""
    return list(_read(path.read_bytes()))


def _read(content: bytes) -> Iterator[Certificate]:
    for certificate in x509.load_pem_x509_certificates(content):
        yield Certificate(
            certificate.subject.rfc4514_string(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
        )
