"""Receivers that others wrote, receivers over TLS, and the gateway's own listener as one."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server

from gateway.database import Database
from gateway.receiver_connection import ConnectError, connect
from tests.support.certificates import Authority
from tests.support.mllp import TIMEOUT_S
from tests.support.ports import free_port
from tests.support.ris import Ris, say_nothing
from tests.worklist.feedback.conftest import MakeSender
from tests.worklist.feedback.sending import add, change, configuration_of, receivers_of
from tests.worklist.hl7 import listening
from tests.worklist.hl7.listening import RunningListener
from worklist.hl7 import message_log
from worklist.items import Status


@contextmanager
def python_hl7(codec: str) -> Iterator[tuple[int, list[hl7.Message]]]:
    """The server of python-hl7 in a thread: its port, and what it received and acknowledged."""
    received: list[hl7.Message] = []
    port, loop = free_port(), asyncio.new_event_loop()
    is_up = threading.Event()

    async def handle(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            while not writer.is_closing():
                message = await reader.readmessage()
                received.append(message)
                writer.writemessage(message.create_ack())
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def serve() -> None:
        async with await start_hl7_server(handle, "127.0.0.1", port, encoding=codec):
            is_up.set()
            await stopping.wait()

    stopping = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert is_up.wait(TIMEOUT_S)
    try:
        yield port, received
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(TIMEOUT_S)


@pytest.mark.parametrize(
    ("character_set", "codec"), [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("~ISO IR87", "iso2022_jp")]
)
def test_the_server_of_python_hl7_takes_and_acknowledges(
    make_sender: MakeSender, sqlite: Database, character_set: str, codec: str
) -> None:
    name = "YAMADA^TAROU=山田^太郎" if codec == "iso2022_jp" else "MÜLLER & SON^JÜRGEN"
    with python_hl7(codec) as (port, received):
        sender = make_sender(Port=port, CharacterSet=character_set, AckTimeout=TIMEOUT_S)
        item = change(sqlite, add(sqlite, PatientName=name), Status.STARTED)
        change(sqlite, item, Status.COMPLETED)
        sender.run()
        sender.delivery.close()
    assert sender.states == ["accepted", "accepted"]
    assert [str(message.segment("ORC")[5]) for message in received] == ["IP", "CM"]
    family = "MÜLLER & SON" if codec != "iso2022_jp" else "YAMADA"
    assert received[0].extract_field("PID", 1, 5, 1, 1) == family
    if codec == "iso2022_jp":
        assert received[0].extract_field("PID", 1, 5, 2, 1) == "山田"


def test_the_gateways_own_listener_takes_and_knows_replays(
    make_sender: MakeSender, sqlite: Database, tmp_path: Path
) -> None:
    """A message that is sent anew because its acknowledgement was lost is the same one, byte by byte."""
    (tmp_path / "listener").mkdir()
    with RunningListener(listening.configuration_of(tmp_path / "listener")) as listener:
        sender = make_sender(Port=listener.port, CharacterSet="8859/15", AckTimeout=0.3)
        listener.handler.may_go_on.clear()
        change(sqlite, add(sqlite, PatientName="MÜLLER^JÜRGEN"), Status.STARTED)
        sender.delivery.step()
        listener.handler.may_go_on.set()
        sender.run(60)
        sender.delivery.close()
        assert sender.states == ["accepted"]
        assert listener.acted_on() == [sender.entries()[0].control_id]
        with listener.database.read() as connection:
            (entry,) = message_log.latest(connection, 10)
    assert entry.times_received == sender.entries()[0].attempts >= 2
    assert (entry.type, entry.outcome) == ("ORM^O01", "AA")


def tls(authority: Authority, **options: Any) -> dict[str, Any]:
    return {"UseTls": True, "TlsTrustedCertificates": str(authority.certificate), **options}


def test_over_tls_both_sides_show_certificates(make_sender: MakeSender, sqlite: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server, client = authority.issue("ris", "127.0.0.1"), authority.issue("gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.private_key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with Ris(context=context) as ris:
        anonymous = make_sender(Port=ris.port, **tls(authority))
        item = change(sqlite, add(sqlite), Status.STARTED)
        anonymous.run(5)
        assert anonymous.states == ["waiting"]
        assert ris.received == []
        shown = {"TlsCertificate": str(client.certificate), "TlsPrivateKey": str(client.private_key)}
        sender = make_sender(Port=ris.port, **tls(authority, **shown))
        change(sqlite, item, Status.COMPLETED)
        sender.run(120)
        # A connection that the RIS closed is noticed under TLS too.
        ris.stop()
        ris.start()
        change(sqlite, add(sqlite, 2), Status.STARTED)
        sender.run()
        assert ris.statuses == [("A1", "IP"), ("A1", "CM"), ("A2", "IP")]
        assert sender.states == ["accepted"] * 3


@pytest.mark.parametrize(
    ("host", "of_own_authority", "options", "reason"),
    [
        ("127.0.0.1", True, {}, ""),
        ("other.example", True, {}, "IP address mismatch"),
        ("other.example", True, {"TlsCheckHost": False}, ""),
        ("127.0.0.1", False, {}, "unable to get local issuer certificate"),
    ],
)
def test_a_receiver_is_who_its_certificate_says(
    tmp_path: Path, host: str, of_own_authority: bool, options: dict[str, Any], reason: str
) -> None:
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    server = (authority if of_own_authority else other).issue("ris", host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.private_key)
    with Ris(context=context) as ris:
        configuration = configuration_of(tmp_path, {"Port": ris.port, **tls(authority, **options)})
        receiver = receivers_of(configuration)[0]
        if not reason:
            connect(configuration, receiver).close()
            return
        with pytest.raises(ConnectError, match=reason):
            connect(configuration, receiver)


def test_a_receiver_that_speaks_no_tls_or_nothing_is_given_up(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        section = {"Port": silent.getsockname()[1], "ConnectTimeout": 0.3, **tls(authority)}
        configuration = configuration_of(tmp_path, section)
        with pytest.raises(ConnectError, match=r"no TLS handshake within 0\.3 s"):
            connect(configuration, receivers_of(configuration)[0])
    with Ris(say_nothing) as ris:
        configuration = configuration_of(tmp_path, {"Port": ris.port})
        connect(configuration, receivers_of(configuration)[0]).close()
        ris.stop()
        with pytest.raises(ConnectError, match="no connection: Connection refused"):
            connect(configuration, receivers_of(configuration)[0])
