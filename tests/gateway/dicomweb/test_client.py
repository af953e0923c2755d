"""The HTTP client before servers that refuse, stall, redirect, and want to know who we are."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.dicomweb import client as client_module
from gateway.dicomweb import credentials
from gateway.dicomweb.client import DicomWebClient, Request
from gateway.dicomweb.errors import BadAnswer, ServerUnreachable
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.orthanc_json import ConfigurationError
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.scripted_http import ScriptedHttp, answer

STUDIES = Request("GET", "/studies")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_RETRY_DELAY_S", 0.01)


def client(url: str, directory: Path = Path("/"), **options: Any) -> DicomWebClient:
    section = DicomWebServerSection.model_validate({"Url": url, "Timeout": 2, **options})
    return DicomWebClient("SERVER", section, lambda text: directory / text)


def get(ours: DicomWebClient, request: Request = STUDIES) -> tuple[int, bytes]:
    with ours.open(request) as got:
        return got.status, got.read(1000)


def header(request: bytes, name: str) -> str:
    lines = (line.partition(": ") for line in request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"))
    return next((value for key, _colon, value in lines if key.lower() == name.lower()), "")


def in_turn(*answers: bytes) -> Callable[[socket.socket, str, int], bool]:
    """The first answers one after the other; b"" closes the connection; then OK for ever."""

    def script(connection: socket.socket, path: str, number: int) -> bool:
        body = answers[number] if number < len(answers) else answer(b"[]")
        connection.sendall(body)
        return bool(body)

    return script


@pytest.mark.parametrize(
    "trouble",
    [answer(b"", f"{status} X") for status in (429, 502, 503, 504)] + [b""],
    ids=["429", "502", "503", "504", "closed"],
)
def test_trouble_that_passes_is_waited_for(trouble: bytes) -> None:
    def script(connection: socket.socket, path: str, number: int) -> bool:
        connection.sendall(trouble if number < 2 else answer(b"[]"))
        return number >= 2 or trouble.endswith(b"\r\n\r\n")

    with ScriptedHttp(script) as server:
        assert get(client(server.url)) == (200, b"[]")
        assert len(server.paths) == 3


def test_attempts_come_to_an_end() -> None:
    busy = answer(b"later", "503 Service Unavailable")
    with ScriptedHttp(in_turn(*[busy] * 9)) as server:
        assert get(client(server.url, Attempts=3)) == (503, b"later")
        assert len(server.paths) == 3
        assert get(
            client(server.url), Request("POST", "/studies", body=lambda: b"x", size_bytes=1, is_repeatable=False)
        )
        assert len(server.paths) == 4
    dead = client(f"http://127.0.0.1:{free_port()}", Attempts=2)
    with pytest.raises(ServerUnreachable, match=r"no answer to GET /studies: .*[Cc]onnection refused"):
        get(dead)


@pytest.mark.parametrize(("status", "count"), [(500, 1), (501, 1), (404, 1), (400, 1)])
def test_what_will_not_pass_is_not_repeated(status: int, count: int) -> None:
    with ScriptedHttp(in_turn(*[answer(b"no", f"{status} X")] * 9)) as server:
        assert get(client(server.url)) == (status, b"no")
        assert len(server.paths) == count


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("-3", 0.0), ("99999", client_module.MAXIMUM_RETRY_AFTER_S), ("soon", None), ("", None), (None, None)],
)
def test_retry_after_is_heard_within_bounds(value: str | None, seconds: float | None) -> None:
    assert client_module.retry_after_s(value, 0.25) == (0.25 if seconds is None else seconds)


def test_retry_after_as_a_date() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 10))
    assert 5 < client_module.retry_after_s(date, 0.25) <= 11


def test_connections_are_kept() -> None:
    with ScriptedHttp(in_turn()) as server:
        ours = client(server.url)
        for _ in range(5):
            assert get(ours) == (200, b"[]")
        assert server.connections == 1


def test_redirections_are_not_followed() -> None:
    moved = answer(b"", "302 Found", "Location: http://127.0.0.1:1/")
    with ScriptedHttp(in_turn(moved)) as server:
        assert get(client(server.url, Username="u", Password="p"))[0] == 302


def test_answers_are_bounded() -> None:
    with ScriptedHttp(in_turn(answer(bytes(1001)))) as server, pytest.raises(BadAnswer, match="more than 1000 bytes"):
        get(client(server.url))


def test_who_is_not_there_is_told_in_few_words() -> None:
    ours = client(f"http://127.0.0.1:{free_port()}", Attempts=1)
    with pytest.raises(ServerUnreachable, match=r"^no answer to GET /studies: Failed to establish .*refused$"):
        get(ours)


def test_silence_comes_to_an_end() -> None:
    over = threading.Event()

    def silent(connection: socket.socket, path: str, number: int) -> bool:
        over.wait(20)
        return False

    with ScriptedHttp(silent) as server:
        with pytest.raises(ServerUnreachable, match="no answer in time"):
            get(client(server.url, Timeout=0.2, Attempts=1))
        over.set()


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nServer: ",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nA: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nA: ",
    ],
    ids=["head", "heads that say nothing", "the size of a chunk", "trailer"],
)
def test_what_stands_around_an_answer_comes_in_time_or_not_at_all(beginning: bytes) -> None:
    over = threading.Event()

    def dripping(connection: socket.socket, path: str, number: int) -> bool:
        connection.sendall(beginning)
        while not over.wait(0.05):
            connection.sendall(b"x")
        return False

    with ScriptedHttp(dripping) as server, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(get, client(server.url, Timeout=0.5, Attempts=1))
        try:
            with pytest.raises(ServerUnreachable, match="no answer in time"):
                asked.result(timeout=20)
        finally:
            over.set()


def test_values_reach_the_server_as_they_are() -> None:
    values = ["a&b=c+d#e", "50%", "Jörg^山?*", "1\\2"]
    with ScriptedHttp(in_turn()) as server:
        get(
            client(f"{server.url}/dicom-web/", QidoPath="/rs/"),
            Request("GET", "/rs/studies", [("A", v) for v in values]),
        )
        path, _mark, query = server.paths[0].partition("?")
        assert path == "/dicom-web/rs/studies"
        expected = ["a%26b%3Dc%2Bd%23e", "50%25", "J%C3%B6rg%5E%E5%B1%B1?*", "1%5C2"]
        assert query == "&".join(f"A={value}" for value in expected)


# --- credentials ---


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_each_way_to_authenticate(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('pä"ss\n')
    ways: list[tuple[dict[str, Any], str]] = [
        ({}, ""),
        ({"Username": "u", "Password": "p"}, basic("u", "p")),
        ({"Username": "ü", "PasswordFile": "secret"}, basic("ü", 'pä"ss')),
        ({"Token": "t"}, "Bearer t"),
        ({"Headers": {"Authorization": "Custom x", "X-Tenant": "7"}}, "Custom x"),
    ]
    with ScriptedHttp(in_turn()) as server:
        for options, expected in ways:
            get(client(server.url, tmp_path, **options))
            assert header(server.requests[-1], "Authorization") == expected
        assert header(server.requests[-1], "X-Tenant") == "7"


def test_a_token_in_a_file_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    def script(connection: socket.socket, path: str, number: int) -> bool:
        is_new = header(server.requests[number], "Authorization") == "Bearer new"
        file.write_text("new\n")
        connection.sendall(answer(b"[]", "200 OK" if is_new else "401 Unauthorized"))
        return True

    with ScriptedHttp(script) as server:
        ours = client(server.url, tmp_path, TokenFile="token")
        assert get(ours)[0] == 200
        assert get(ours)[0] == 200
        assert len(server.paths) == 3


class Authorization:
    """A server with an authorization server beside it: tokens T1, T2, ... of which `good` are taken."""

    def __init__(self, life_s: Any = 3600) -> None:
        self.issued = 0
        self.good: set[str] = set()
        self.life_s = life_s
        self.server = ScriptedHttp(self.script)

    def script(self, connection: socket.socket, path: str, number: int) -> bool:
        if path == "/token?x=1":
            self.issued += 1
            token = {"access_token": f"T{self.issued}", "token_type": "Bearer", "expires_in": self.life_s}
            connection.sendall(answer(json.dumps(token).encode()))
            return True
        told = header(self.server.requests[number], "Authorization")
        connection.sendall(answer(b"[]", "200 OK" if told in self.good else "401 Unauthorized"))
        return True

    def client(self, **options: Any) -> DicomWebClient:
        told = {"TokenUrl": f"{self.server.url}/token", "ClientId": "a:b", "ClientSecret": "c d", **options}
        return client(self.server.url, OAuth2=told)


def test_tokens_are_fetched_once_and_renewed_once_when_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    authorization = Authorization()
    with authorization.server as server:
        server.script = lambda connection, path, number: authorization.script(
            connection, "/token?x=1" if path == "/token" else path, number
        )
        ours = authorization.client(Scope="dicom", Parameters={"audience": "x y"})
        authorization.good = {"Bearer T1"}
        assert [get(ours)[0] for _ in range(3)] == [200] * 3
        assert authorization.issued == 1
        authorization.good = {"Bearer T2"}
        assert get(ours)[0] == 200
        assert authorization.issued == 2
        authorization.good = set()
        assert get(ours)[0] == 401
        assert authorization.issued == 3
        order = next(request for request, path in zip(server.requests, server.paths, strict=True) if path == "/token")
        assert header(order, "Authorization") == basic("a%3Ab", "c+d")
        body = order.partition(b"\r\n\r\n")[2]
        assert body == b"grant_type=client_credentials&audience=x+y&scope=dicom"
        get(authorization.client(Authentication="Body"))
        order = [r for r, path in zip(server.requests, server.paths, strict=True) if path == "/token"][-1]
        assert order.endswith(b"client_id=a%3Ab&client_secret=c+d")
        assert not header(order, "Authorization")


@pytest.mark.parametrize(
    ("told", "life_s"), [(3600, 3540), (10, 8), ("300", 240), (None, 300), (-1, 300), ("x", 300), (10**400, 300)]
)
def test_tokens_are_renewed_before_they_expire(told: Any, life_s: float) -> None:
    assert credentials._life(told) == life_s


@pytest.mark.parametrize(
    "told",
    [
        answer(b'{"error": "invalid_client"}', "401 Unauthorized"),
        answer(b"{}"),
        answer(b"<html>"),
        answer(b"[" * 1_000_000),
        answer(b'{"access_token": "a\\nb"}'),
    ],
)
def test_without_a_token_nothing_is_asked(told: bytes) -> None:
    with ScriptedHttp(in_turn(*[told] * 9)) as server:
        ours = client(
            server.url, Attempts=1, OAuth2={"TokenUrl": f"{server.url}/token", "ClientId": "a", "ClientSecret": "s3"}
        )
        with pytest.raises(ServerUnreachable, match=r"no token from http://.*/token: ") as caught:
            get(ours)
        assert "s3" not in str(caught.value)
        with pytest.raises(ServerUnreachable, match="no token"):
            get(ours)
        assert server.paths == ["/token"]  # it is not asked again at once


# --- TLS and proxies ---


def test_both_sides_prove_who_they_are(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    own, theirs = authority.issue("client"), authority.issue("server", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(theirs.certificate, theirs.private_key)
    proof = {"ClientCertificate": str(own.certificate), "ClientPrivateKey": str(own.private_key)}
    with ScriptedHttp(in_turn(), context) as server:
        assert get(client(server.url, CaFile=str(authority.certificate), **proof)) == (200, b"[]")
        assert get(client(server.url, VerifyPeer=False, **proof)) == (200, b"[]")
        for wrong in ({"CaFile": str(authority.certificate)}, {"CaFile": str(other.certificate), **proof}, proof):
            with pytest.raises(ServerUnreachable):
                get(client(server.url, Attempts=1, **wrong))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"CaFile": "absent"}, "CaFile: .*absent: No such file"),
        ({"CaFile": "text"}, "CaFile: .*text: expected PEM"),
        ({"ClientCertificate": "text", "ClientPrivateKey": "text"}, "ClientCertificate: .*text: expected PEM"),
        ({"ClientCertificate": "text", "ClientPrivateKey": "absent"}, "ClientPrivateKey: .*absent: No such file"),
        ({"Username": "u", "PasswordFile": "absent"}, "absent: No such file"),
        ({"TokenFile": "absent"}, "absent: No such file"),
    ],
)
def test_files_that_cannot_be_used_are_told_at_once(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(ConfigurationError, match=text):
        client("http://localhost", tmp_path, **options)


def test_requests_go_through_a_proxy() -> None:
    with ScriptedHttp(in_turn()) as proxy:
        url = proxy.url.replace("http://", "http://us%65r:p%40ss@")
        assert get(client("http://pacs.example/dicom-web", Proxy=url)) == (200, b"[]")
        assert proxy.paths == ["http://pacs.example/dicom-web/studies"]
        assert header(proxy.requests[0], "Proxy-Authorization") == basic("user", "p@ss")


# --- bodies ---


def test_a_body_is_made_anew_for_each_attempt() -> None:
    with ScriptedHttp(in_turn(answer(b"", "503 X"))) as server:
        request = Request("POST", "/studies", body=lambda: iter([b"ab", b"cd"]), size_bytes=4)
        assert get(client(server.url), request) == (200, b"[]")
        assert [one.partition(b"\r\n\r\n")[2] for one in server.requests] == [b"abcd", b"abcd"]
