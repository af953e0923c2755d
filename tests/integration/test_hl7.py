"""The HL7 port of a running gateway: started with it, started again after a crash, and what a person sees of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from gateway import cli
from tests.conftest import MakeGateway
from tests.integration.gateways import process_of, processes_of
from tests.support.mllp import FS, VT, Sender, code_of, order
from tests.support.ports import accepts, free_port
from tests.support.processes import wait_until
from tests.support.server import START_TIMEOUT_S
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

LISTENER = "worklist.hl7"
# No listener acts on them, and this one says so.
UNKNOWN = "ZZZ^Z99"


Capture = pytest.CaptureFixture[bytes]


def command(capture: Capture, *arguments: str | Path) -> bytes:
    """What `dicom-gateway` prints."""
    with pytest.raises(SystemExit):
        cli.app([str(argument) for argument in arguments])
    printed = capture.readouterr()
    return printed.out + printed.err


def hl7_port(gateway: Gateway) -> int:
    return int(gateway.configuration["DicomGateway"]["Hl7"]["Port"])


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    made = make_gateway(DicomGateway={"Workers": 1, "Hl7": {"Port": free_port(), "OtherMessages": "Reject"}})
    made.start()
    return made


def test_senders_wait_for_a_listener_that_is_started_again(gateway: Gateway) -> None:
    with Sender(hl7_port(gateway)) as sender:
        assert code_of(sender.ask(order("1", msh9=UNKNOWN))) == "AR"
        os.kill(process_of(gateway, LISTENER), signal.SIGKILL)
        assert sender.receive() is None
    # Nobody is refused meanwhile.
    with Sender(hl7_port(gateway)) as sender:
        assert code_of(sender.ask(order("2", msh9=UNKNOWN))) == "AR"
    assert "process ended and is started again name=hl7" in gateway.log_text()


def test_the_gateway_stops_with_connections_open(gateway: Gateway) -> None:
    with Sender(hl7_port(gateway)) as idle, Sender(hl7_port(gateway)) as half:
        assert code_of(idle.ask(order("1", msh9=UNKNOWN))) == "AR"
        half.send(VT + b"MSH|^~")
        assert gateway.stop() == 0
        assert idle.receive() is half.receive() is None
    assert "is killed" not in gateway.log_text()
    assert not accepts(hl7_port(gateway))


def test_the_listener_ends_with_its_supervisor(gateway: Gateway) -> None:
    process_of(gateway, LISTENER)
    gateway.kill()
    wait_until(lambda: not processes_of(gateway, LISTENER), 20, "the listener goes on")


def test_without_the_section_there_is_no_listener(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway={"Workers": 1})
    gateway.start()
    assert not processes_of(gateway, LISTENER)


def test_a_port_that_is_taken_is_named(make_gateway: MakeGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = make_gateway(DicomGateway={"Hl7": {"Port": port}})
        gateway.launch()
        assert gateway.wait(START_TIMEOUT_S) == 3
    assert f"cannot listen on HL7 port {port} (127.0.0.1): Address already in use" in gateway.log_text()


def test_what_was_sent_and_answered_is_shown(gateway: Gateway, capsysbinary: Capture) -> None:
    first = order("A1", msh9=UNKNOWN, name="MÜLLER^JÜRGEN", msh18="8859/1", codec="latin-1")
    with Sender(hl7_port(gateway)) as sender:
        sender.ask(first)
        sender.ask(order("B[/b]2", msh9=UNKNOWN, msh3="[red]OTHER"))
        sender.send(VT + b"hello" + FS)
        assert code_of(sender.receive()) == "AE"

    def hl7(verb: str, *arguments: str) -> bytes:
        return command(capsysbinary, "hl7", verb, *arguments, "--config", gateway.file)

    listed = hl7("list").decode().splitlines()
    assert [line.split()[0] for line in listed] == ["message", "1", "2", "3"]
    assert "RIS|HOSPITAL" in listed[1]
    assert "AR 200 MSH^1^9" in listed[1]
    assert "[red]OTHER" in listed[2]
    assert "B[/b]2" in listed[2]
    assert "AE 100 MSH^1" in listed[3]
    assert len(hl7("list", "--outcome", "AE").splitlines()) == 2
    assert len(hl7("list", "--sender", "RIS", "--limit", "5").splitlines()) == 2
    assert len(hl7("list", "--control-id", "A1").splitlines()) == 2
    assert b"expected AA, AE, AR or none" in hl7("list", "--outcome", "XX")
    shown = hl7("show", "1").decode()
    assert "outcome: AR 200 MSH^1^9" in shown
    assert "    PID|1||PA1^^^HOSPITAL||MÜLLER^JÜRGEN||19700101|F\n" in shown
    assert "\n    MSA|AR|A1|" in shown
    assert hl7("show", "1", "--raw") == first
    assert b"there is no message 99" in hl7("show", "99")


def test_hl7_commands_say_when_there_is_no_database(make_gateway: MakeGateway, capsysbinary: Capture) -> None:
    gateway = make_gateway(DicomGateway={"Hl7": {}})
    gateway.write_configuration()
    assert b"start the gateway first" in command(capsysbinary, "hl7", "list", "--config", gateway.file)


def test_check_says_who_may_send_and_what_is_wrong(tmp_path: Path, capsysbinary: Capture) -> None:
    def check(**section: object) -> str:
        file = tmp_path / "gateway.json"
        file.write_text(json.dumps({"DicomGateway": {"StateDirectory": str(tmp_path / "state"), "Hl7": section}}))
        return command(capsysbinary, "check", file).decode()

    assert "HL7 port 2575 on 127.0.0.1, from everybody; 100 connections" in check()
    open_port = check(Host="0.0.0.0", AllowedHosts=["10.0.0.0/8"])
    assert "HL7 port 2575 on 0.0.0.0, from 10.0.0.0/8" in open_port
    assert "WARNING: the HL7 port is not encrypted" in open_port
    assert "PROBLEM: DicomGateway.Hl7.Port: is the DICOM port too" in check(Port=4242)
    missing = check(TlsCertificate="c.pem", TlsPrivateKey="k.pem")
    assert f"PROBLEM: DicomGateway.Hl7.TlsCertificate: {tmp_path}/c.pem: No such file" in missing
    assert "expected both or none" in check(TlsCertificate="c.pem")
    assert "Hl7.DefaultCharacterSet: expected a character set as in MSH-18" in check(DefaultCharacterSet="ASCII")
