"""The TLS context of a port, made from the files that options name and made anew when the files change.

SIGHUP belongs to Orthanc, so a connection is the occasion to look at the files.
"""

import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.options.config import Configuration
from gateway.options.hl7 import Hl7Section
from gateway.tls.policy import TlsPolicy

# Files are looked at when a connection comes, not more often than this.
LOOK_INTERVAL_S: Final = 1.0

# What tells a file from its earlier self: inode, time of change in nanoseconds, size. None: it cannot be looked at.
_Stamp = tuple[int, int, int] | None


class TlsError(Exception):
    """Certificates or a key that cannot be used. The text is one line with the option and the file."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of the options; `trusted` is None where no peer is asked for a certificate."""

    certificate: Path
    private_key: Path
    trusted: Path | None
    # What the names of the options begin with.
    prefix: str = "DicomTls"


def files_of(configuration: Configuration) -> TlsFiles:
    """Return the files of the DICOM port."""
    options = configuration.orthanc
    required = options.dicom_tls_remote_certificate_required
    return TlsFiles(
        certificate=configuration.path(options.dicom_tls_certificate),
        private_key=configuration.path(options.dicom_tls_private_key),
        trusted=configuration.path(options.dicom_tls_trusted_certificates) if required else None,
    )


def files_of_hl7(configuration: Configuration, section: Hl7Section) -> TlsFiles | None:
    """Return the files of the HL7 port; None if it is not encrypted."""
    if section.tls_certificate is None or section.tls_private_key is None:
        return None
    trusted = section.tls_trusted_certificates
    return TlsFiles(
        certificate=configuration.path(section.tls_certificate),
        private_key=configuration.path(section.tls_private_key),
        trusted=configuration.path(trusted) if trusted is not None else None,
        prefix="DicomGateway.Hl7.Tls",
    )


def make_context(files: TlsFiles, tls_policy: TlsPolicy) -> ssl.SSLContext:
    """Load the files. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls_policy.minimum_version
    context.set_ciphers(tls_policy.ciphers)
    # Without resumption each association proves its certificate, by what is trusted now.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    require_readable(f"{files.prefix}Certificate", files.certificate)
    require_readable(f"{files.prefix}PrivateKey", files.private_key)
    load_own(context, files)
    if files.trusted is not None:
        option = f"{files.prefix}TrustedCertificates"
        require_readable(option, files.trusted)
        load_trusted(context, option, files.trusted)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def require_readable(option: str, path: Path) -> None:
    """Raise TlsError for a file that cannot be opened."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsError(f"{option}: {path}: {error.strerror}") from error


def load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Load our certificate, and the key to it. Raises TlsError."""
    # OpenSSL does not say which of the two files it could not read.
    own, key = f"{files.prefix}Certificate", f"{files.prefix}PrivateKey"
    load_trusted(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), own, files.certificate)
    try:
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in _MISMATCH:
            text = f"{files.private_key}: is not the key of the certificate {files.certificate}"
            raise TlsError(f"{key}: {text}") from error
        if error.reason in _WEAK_CERTIFICATE:
            text = f"{files.certificate}: {_WEAK_CERTIFICATE[error.reason]}"
            raise TlsError(f"{own}: {text}") from error
        raise TlsError(f"{key}: {files.private_key}: expected a private key in PEM format") from error
    except _Encrypted as error:
        raise TlsError(f"{key}: {files.private_key}: expected a key without password") from error


# By OpenSSL's names of errors: another key of this kind, a key of another kind.
_MISMATCH: Final = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_WEAK_CERTIFICATE: Final = {
    "EE_KEY_TOO_SMALL": "its key is too short",
    "CA_KEY_TOO_SMALL": "the key of its issuer is too short",
    "CA_MD_TOO_WEAK": "it is signed with a digest that is too weak",
}


class _Encrypted(Exception):
    """The private key needs a password."""


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal."""
    raise _Encrypted


def load_trusted(context: ssl.SSLContext, option: str, path: Path) -> None:
    """Load the certificates of those who vouch for peers. Raises TlsError."""
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsError(f"{option}: {path}: expected certificates in PEM format") from error


class TlsContexts:
    """Gives each connection the context of the files as they are now; thread-safe."""

    def __init__(self, files: TlsFiles, tls_policy: TlsPolicy, log: Any) -> None:
        self._files = files
        self._policy = tls_policy
        self._log = log
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._reason = ""
        self._stamps: list[_Stamp] = []
        self._next_look = 0.0
        self._look()

    def current(self) -> ssl.SSLContext:
        """Return the context; the one before as long as changed files cannot be used.

        Raises TlsError when there never was one: the files broke between a gateway's start and this worker's.
        """
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + LOOK_INTERVAL_S
            if self._context is None:
                raise TlsError(self._reason)
            return self._context

    def _look(self) -> None:
        stamps = [_stamp(path) for path in (self._files.certificate, self._files.private_key, self._files.trusted)]
        if stamps == self._stamps:
            return
        first, self._stamps = not self._stamps, stamps
        try:
            self._context = make_context(self._files, self._policy)
        except TlsError as error:
            self._reason = str(error)
            kept = "; those before stay in use" if self._context is not None else ""
            self._log.error(f"TLS certificates cannot be used{kept}", reason=self._reason)
        else:
            if not first:
                self._log.info("TLS certificates were read again")


def _stamp(path: Path | None) -> _Stamp:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
