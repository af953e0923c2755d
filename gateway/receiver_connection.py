"""Connections to the receivers of `DicomGateway.Hl7.Receivers`: TCP, and TLS where it is asked for."""

import socket
import ssl
from typing import Final

from gateway.options.config import Configuration
from gateway.options.hl7_receivers import ReceiverSection
from gateway.tls.context import TlsError, TlsFiles, load_own, load_trusted, require_readable

# A peer that went without a word is noticed after about ten minutes, also while nothing is to be sent.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 300), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 5))


class ConnectError(Exception):
    """No connection. The text is one line: at which step it failed, and why."""


def receiver_context(configuration: Configuration, receiver: ReceiverSection) -> ssl.SSLContext | None:
    """Load the files of a receiver as they are now; None if it is not called over TLS. Raises TlsError."""
    if not receiver.use_tls or receiver.tls_trusted_certificates is None:
        return None
    prefix = f"DicomGateway.Hl7.Receivers.{receiver.name}.Tls"
    try:
        policy = configuration.orthanc.tls_policy()
    except ValueError as error:
        raise TlsError(str(error)) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = policy.minimum_version
    context.set_ciphers(policy.ciphers)
    context.check_hostname = receiver.tls_check_host
    trusted = configuration.path(receiver.tls_trusted_certificates)
    require_readable(f"{prefix}TrustedCertificates", trusted)
    load_trusted(context, f"{prefix}TrustedCertificates", trusted)
    if receiver.tls_certificate is not None and receiver.tls_private_key is not None:
        files = TlsFiles(
            configuration.path(receiver.tls_certificate), configuration.path(receiver.tls_private_key), trusted, prefix
        )
        require_readable(f"{prefix}Certificate", files.certificate)
        require_readable(f"{prefix}PrivateKey", files.private_key)
        load_own(context, files)
    return context


def connect(configuration: Configuration, receiver: ReceiverSection) -> socket.socket:
    """Call a receiver. Raises ConnectError."""
    try:
        context = receiver_context(configuration, receiver)
    except TlsError as error:
        raise ConnectError(str(error)) from error
    try:
        plain = socket.create_connection((receiver.host, receiver.port), timeout=receiver.connect_timeout)
    except TimeoutError:
        raise ConnectError(f"no connection within {receiver.connect_timeout:g} s") from None
    except OSError as error:
        raise ConnectError(f"no connection: {error.strerror or error}") from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
    return plain if context is None else _encrypt(plain, context, receiver)


def _encrypt(plain: socket.socket, context: ssl.SSLContext, receiver: ReceiverSection) -> socket.socket:
    try:
        # The socket's timeout is that of the handshake as a whole.
        return context.wrap_socket(plain, server_hostname=receiver.host)
    except TimeoutError:
        reason = f"no TLS handshake within {receiver.connect_timeout:g} s"
    except ssl.SSLCertVerificationError as error:
        reason = f"TLS fails: {error.verify_message}"
    except ssl.SSLError as error:
        # OpenSSL's words for it, WRONG_VERSION_NUMBER, are what people search for.
        reason = f"TLS fails: {error.reason or error}"
    except (OSError, ValueError) as error:
        reason = f"TLS fails: {error}"
    plain.close()
    raise ConnectError(reason)
