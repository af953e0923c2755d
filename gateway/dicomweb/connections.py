"""Connections to a DICOMweb server: TLS, client certificate, proxy."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import certifi
import urllib3

from gateway.dicomweb.deadlines import BoundedPool, BoundedTlsPool
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.orthanc_json import ConfigurationError

# http.client reads a streamed body in pieces of this size; its own 16 KiB cost a system call each.
STREAM_BLOCK_BYTES: Final = 512 * 1024

# How many wait for the next request. More are opened when they are needed: who streams a study may need another one.
KEPT_CONNECTIONS: Final = 8


def tls_context(title: str, section: DicomWebServerSection, path: Callable[[str], Path]) -> ssl.SSLContext:
    """What servers prove themselves by, and we ourselves. Raises ConfigurationError."""
    prefix = f"DicomGateway.DicomWebServers.{title}"
    context = ssl.create_default_context(cafile=certifi.where() if section.ca_file is None else None)
    if section.ca_file is not None:
        _load(f"{prefix}.CaFile", path(section.ca_file), context.load_verify_locations)
    if not section.verify_peer:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # `dicom-gateway check` says it
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if section.client_certificate is not None and section.client_private_key is not None:
        key = path(section.client_private_key)
        secret = section.client_private_key_password
        password = secret.get_secret_value() if secret is not None else ""
        _check_readable(f"{prefix}.ClientPrivateKey", key)
        _load(
            f"{prefix}.ClientCertificate",
            path(section.client_certificate),
            lambda certificate: context.load_cert_chain(certificate, key, password=lambda: password),
        )
    return context


def pool_of(url: str, section: DicomWebServerSection, context: ssl.SSLContext) -> urllib3.HTTPConnectionPool:
    """Kept-alive connections to the host of `url`."""
    target = urllib3.util.parse_url(url)
    options: dict[str, Any] = {"maxsize": KEPT_CONNECTIONS, "blocksize": STREAM_BLOCK_BYTES}
    if target.scheme == "https":
        options["ssl_context"] = context
    if section.proxy is None:
        manager = urllib3.PoolManager(num_pools=1, **options)
    else:
        proxy = urllib3.util.parse_url(section.proxy)
        headers = urllib3.make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
        manager = urllib3.ProxyManager(
            section.proxy, num_pools=1, proxy_headers=headers, proxy_ssl_context=context, **options
        )
    manager.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedTlsPool}
    return manager.connection_from_host(target.host, target.port, target.scheme)


def request_target(url: str, section: DicomWebServerSection) -> str:
    """What a request for `url` names: to a proxy, if there is no tunnel, all of it (RFC 9112 3.2.2)."""
    target = urllib3.util.parse_url(url)
    path = target.path or "/"
    is_forwarded = section.proxy is not None and target.scheme == "http"
    return f"http://{target.netloc}{path}" if is_forwarded else path


def _load(option: str, file: Path, load: Callable[[Path], None]) -> None:
    _check_readable(option, file)
    try:
        load(file)
    except OSError as error:  # SSLError, or whatever errno OpenSSL left behind
        raise ConfigurationError(f"{option}: {file}: expected PEM, and a key that belongs to it") from error


def _check_readable(option: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"{option}: {file}: {error.strerror}") from error
