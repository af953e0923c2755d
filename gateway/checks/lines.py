"""What the parts of `dicom-gateway check` have in common: its lines, and what they say about certificates."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.checks import certificates
from gateway.checks.certificates import Certificate
from gateway.tls.context import TlsFiles

# How many trusted certificates are named, of those that are well.
NAMED_CERTIFICATES: Final = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report; `ok` is False for what must be mended before a start."""

    text: str
    ok: bool = True


def describe_certificates(files: TlsFiles) -> Iterator[Line]:
    """Yield whose certificates these are, and which of them do not last."""
    now = datetime.now(UTC)
    try:
        own = certificates.read(files.certificate)[0]
        trusted = certificates.read(files.trusted) if files.trusted is not None else []
    except (OSError, ValueError) as error:
        yield Line(f"the certificates cannot be described: {error}")
        return
    yield from _describe("certificate", own, now, ok=own.is_valid(now))
    well = [certificate for certificate in trusted if not certificate.trouble(now)]
    for certificate in well[:NAMED_CERTIFICATES]:
        yield from _describe("trusted", certificate, now)
    if len(well) > NAMED_CERTIFICATES:
        yield Line(f"trusted: {len(well) - NAMED_CERTIFICATES} more")
    for certificate in trusted:
        if certificate.trouble(now):
            yield from _describe("trusted", certificate, now)


def _describe(role: str, certificate: Certificate, now: datetime, *, ok: bool = True) -> Iterator[Line]:
    yield Line(f"{role}: {certificate.subject}, valid until {certificate.not_after:%Y-%m-%d}")
    trouble = certificate.trouble(now)
    if trouble:
        yield Line(f"{'WARNING: ' if ok else ''}the certificate {certificate.subject} {trouble}", ok=ok)
