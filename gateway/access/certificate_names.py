"""Which certificate belongs to which AE title: `DicomGateway.TlsSubjects`.

An AE title proves nothing by itself. Where it is bound, only the holder of one of the named certificates has it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.access.admission import Refusal, Rejection
from gateway.options.config import Configuration


def names(certificate: Mapping[str, Any]) -> list[str]:
    """Return common name and DNS subject alternative names of what ssl's getpeercert() gives."""
    return list(_names(certificate))


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for relative_name in certificate.get("subject", ()):
        yield from (value for attribute, value in relative_name if attribute == "commonName")
    yield from (value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")


class SubjectBinding:
    """The bindings of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._strict = configuration.orthanc.strict_aet_comparison
        self._accepted: dict[str, set[str]] = {}
        for ae_title, subjects in configuration.gateway.tls_subjects.items():
            self._accepted.setdefault(self._key(ae_title), set()).update(subject.casefold() for subject in subjects)

    def _key(self, ae_title: str) -> str:
        return ae_title if self._strict else ae_title.upper()

    def reject(self, calling: str, certificate: Mapping[str, Any]) -> Rejection | None:
        """Return why the peer with this certificate may not use the calling AE title, or None.

        Names are compared whole and without case (RFC 5280 7.1 and 7.2); a wildcard in a certificate stands for itself.
        """
        accepted = self._accepted.get(self._key(calling))
        found = names(certificate)
        if accepted is None or any(name.casefold() in accepted for name in found):
            return None
        return Rejection(
            Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
            f"TlsSubjects does not give this calling AE title to {', '.join(found) or 'a certificate without names'}",
            "DicomGateway.TlsSubjects",
        )
