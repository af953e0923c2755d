"""HTTPS towards Orthanc: trust comes from its own certificate, whatever name stands in it.

Against a server of the tests, because Debian's Orthanc 1.10.1 crashes at the first HTTPS request of any client.
"""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.child import Settings
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.transports import HttpTransport, Unreachable


def _certificate(directory: Path) -> Path:
    """A self-signed certificate for a name that is not the server's, with its key in the same file as Orthanc wants."""
    key, certificate, both = directory / "key.pem", directory / "certificate.pem", directory / "both.pem"
    subprocess.run(
        [
            *("/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=orthanc", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], certificate
    server.shutdown()
    server.server_close()


def _transport(port: int, certificate: Path) -> HttpTransport:
    content = {"HttpPort": port, "SslEnabled": True, "SslCertificate": certificate.name}
    settings = Settings(content, str(certificate.parent))
    return HttpTransport(endpoint(settings, settings.configuration()))


def test_orthancs_own_certificate_is_trusted(https: tuple[int, Path]) -> None:
    port, certificate = https
    assert _transport(port, certificate).get("/system").http_status == 200


def test_another_certificate_is_not(https: tuple[int, Path], tmp_path: Path) -> None:
    port, _certificate_of_server = https
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Unreachable, match="certificate verify failed"):
        _transport(port, _certificate(other)).get("/system")
