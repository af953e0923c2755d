"""The two ways into Orthanc's REST API."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.child import Settings
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.transports import Endpoint, HttpTransport, PluginTransport, Unreachable
from gateway.forwarding.verdicts import Reply
from tests.support.hostile_http import Answer, Fault, HostileHttp
from tests.support.images import make_ct
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import open_fds


def transport(server: HostileHttp, **arguments: Any) -> HttpTransport:
    return HttpTransport(Endpoint(server.url, **arguments))


def test_credentials_are_sent_as_told(hostile: HostileHttp) -> None:
    hostile.rule = lambda _request: Answer(200, b"{}")
    transport(hostile).get("/system")
    transport(hostile, authorization="Bearer token").get("/system")
    transport(hostile, credentials=("Aladdin", "open sesame")).get("/system")
    sent = [request.headers.get("Authorization") for request in hostile.requests]
    assert sent == [None, "Bearer token", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]


def test_environment_does_not_lead_the_images_elsewhere(
    hostile: HostileHttp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    netrc.chmod(0o600)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NETRC", str(netrc))
    hostile.rule = lambda _request: Answer(200, b"{}")
    assert transport(hostile).post("/instances", b"x", 1).http_status == 200
    assert "Authorization" not in hostile.requests[0].headers


def test_redirection_is_not_followed(hostile: HostileHttp) -> None:
    hostile.rule = lambda _request: Answer(302)
    assert transport(hostile, authorization="secret").post("/instances", b"x", 1).http_status == 302
    assert len(hostile.requests) == 1


def test_error_code_is_read_from_error_answers_only(hostile: HostileHttp) -> None:
    body = b'{"OrthancStatus": 15}'
    for status, code in [(400, 15), (500, 15), (200, None)]:
        hostile.rule = lambda _request, status=status: Answer(status, body)  # type: ignore[misc]
        assert transport(hostile).post("/instances", b"x", 1) == Reply(status, body, code)


def test_file_is_sent_from_its_start_and_whole(hostile: HostileHttp, tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    make_ct(path, 1024, 1024, seed=1)
    with path.open("rb") as file:
        transport(hostile).post("/instances", file, path.stat().st_size)
    assert list(hostile.stored.values()) == [path.read_bytes()]


@pytest.mark.parametrize("fault", list(Fault))
def test_no_answer_is_unreachable_and_the_next_request_works(hostile: HostileHttp, fault: Fault) -> None:
    hostile.rule = lambda _request: fault
    one = transport(hostile, timeout_s=0.2)
    with pytest.raises(Unreachable) as caught:
        one.post("/instances", b"x", 1)
    assert str(caught.value)
    assert "('" not in str(caught.value), "words, not the representation of objects"
    hostile.rule = lambda _request: Answer(200, b"{}")
    assert one.get("/system").http_status == 200


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="refused"):
        HttpTransport(Endpoint(f"http://127.0.0.1:{free_port()}")).get("/system")


@pytest.mark.integration
def test_orthanc_answers_over_one_connection(orthanc: Orthanc) -> None:
    one = HttpTransport(Endpoint(orthanc.url))
    assert all(one.get("/system").http_status == 200 for _ in range(20))
    orthanc.restart()
    assert one.get("/system").http_status == 200, "the old connection is gone, a new one is made"


def test_tls_is_trusted_by_its_own_certificate_only(tmp_path: Path) -> None:
    """Not with a real Orthanc: Debian's 1.10.1 ends with a segmentation fault at its first HTTPS request."""
    ours, other = certificate(tmp_path / "ours.pem"), certificate(tmp_path / "other.pem")
    server = HostileHttp(ours)
    server.rule = lambda _request: Answer(200, b"{}")
    try:
        options = {"HttpPort": int(server.url.rpartition(":")[2]), "SslEnabled": True}
        trusting = _endpoint({**options, "SslCertificate": "ours.pem"}, tmp_path)
        assert trusting.url == server.url
        assert HttpTransport(trusting).get("/system").http_status == 200
        for wrong in (
            _endpoint({**options, "SslCertificate": str(other)}, tmp_path),
            _endpoint({"DicomGateway": {"Orthanc": {"Url": server.url}}}, tmp_path),
            # A name that is not ours is accepted on our own loopback only.
            _endpoint({"DicomGateway": {"Orthanc": {"Url": server.url, "CaFile": str(ours)}}}, tmp_path),
        ):
            with pytest.raises(Unreachable, match="certificate"):
                HttpTransport(wrong).get("/system")
    finally:
        server.close()


def _endpoint(content: dict[str, Any], base: Path) -> Endpoint:
    settings = Settings(content, str(base))
    return endpoint(settings, settings.configuration())


def certificate(path: Path) -> Path:
    """A key and a certificate for another name than 127.0.0.1."""
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pacs.example", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(path)], capture_output=True, check=True)
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path


def test_endpoint_follows_orthancs_options_unless_told_otherwise(tmp_path: Path) -> None:
    inside = _endpoint({"HttpPort": 8043}, tmp_path)
    assert (inside.url, inside.ca_file, inside.credentials) == ("http://127.0.0.1:8043", None, None)
    section = {"Url": "https://pacs/orthanc/", "Username": "u", "Password": "p", "CaFile": "ca.pem"}
    elsewhere = _endpoint({"DicomGateway": {"Orthanc": section, "Forwarding": {"Timeout": 7}}}, tmp_path)
    assert elsewhere.url == "https://pacs/orthanc"
    assert elsewhere.credentials == ("u", "p")
    assert elsewhere.ca_file == str(tmp_path / "ca.pem")
    assert elsewhere.check_hostname
    assert elsewhere.timeout_s == 7


# Transport "Plugin". The other end of the socket is the glue's, in Orthanc.

Handler = Callable[[dict[str, Any], bytes], list[tuple[int, bytes, int | None]]]


@pytest.fixture
def plugin() -> Iterator[Callable[..., PluginTransport]]:
    """A transport whose other end answers what the handler says: numbers, bodies, error codes."""
    sockets: list[socket.socket] = []

    def make(handler: Handler, timeout_s: float = 20) -> PluginTransport:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sockets.extend((ours, theirs))

        def serve() -> None:
            while True:
                packet, fds, _flags, _address = socket.recv_fds(theirs, 4096, 1)
                if not packet:
                    return
                request = json.loads(packet)
                with os.fdopen(fds[0], "rb") as file:
                    body = os.pread(file.fileno(), request["size"], 0)
                for number, answer, error in handler(request, body):
                    with os.fdopen(os.memfd_create("answer"), "wb") as out:
                        out.write(answer)
                        out.flush()
                        socket.send_fds(
                            theirs, [json.dumps({"number": number, "error": error}).encode()], [out.fileno()]
                        )

        threading.Thread(target=serve, daemon=True).start()
        return PluginTransport(ours, threading.Lock(), timeout_s)

    yield make
    for each in sockets:
        each.close()


def test_plugin_gets_bytes_and_files_and_answers_either_way(
    plugin: Callable[..., PluginTransport], tmp_path: Path
) -> None:
    seen: list[tuple[str, bytes]] = []

    def handler(request: dict[str, Any], body: bytes) -> list[tuple[int, bytes, int | None]]:
        seen.append((request["uri"], body))
        return [(request["number"], b"" if body == b"bad" else b"{}", 15 if body == b"bad" else None)]

    one = plugin(handler)
    assert one.post("/instances", b"bytes", 5) == Reply(None, b"{}", None)
    assert one.post("/instances", b"bad", 3) == Reply(None, b"", 15)
    (tmp_path / "file").write_bytes(b"file" * 100_000)
    with (tmp_path / "file").open("rb") as file:
        one.post("/tools/x", file, 400_000)
    assert seen == [("/instances", b"bytes"), ("/instances", b"bad"), ("/tools/x", b"file" * 100_000)]


def test_late_answer_of_the_plugin_is_not_taken_for_the_next_one(plugin: Callable[..., PluginTransport]) -> None:
    late: list[int] = []

    def handler(request: dict[str, Any], _body: bytes) -> list[tuple[int, bytes, int | None]]:
        if not late:
            late.append(request["number"])
            return []
        return [(late[0], b"late", None), (request["number"], b"mine", None)]

    one = plugin(handler, timeout_s=0.2)
    with pytest.raises(Unreachable, match="timed out"):
        one.post("/instances", b"first", 5)
    assert one.post("/instances", b"second", 6).body == b"mine"


def test_plugin_that_is_gone_is_unreachable() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one = PluginTransport(ours, threading.Lock(), 20)
    theirs.close()
    for _ in range(2):
        with pytest.raises(Unreachable):
            one.post("/instances", b"x", 1)
    ours.close()


def test_descriptors_are_given_back(plugin: Callable[..., PluginTransport]) -> None:
    one = plugin(lambda request, _body: [(request["number"], b"{}", None)])
    one.post("/instances", b"x", 1)
    before = len(open_fds(os.getpid()))
    for _ in range(50):
        one.post("/instances", b"x", 1)
    assert len(open_fds(os.getpid())) <= before + 2
