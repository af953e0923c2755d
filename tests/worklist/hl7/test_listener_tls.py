"""The port over TLS: who has the right certificate is heard."""

import ssl
from pathlib import Path

import pytest

from tests.support.certificates import DAY, NOW, Authority
from tests.support.mllp import Sender, code_of, enclosed, order
from tests.support.processes import wait_until
from tests.worklist.hl7.conftest import MakeListener
from tests.worklist.hl7.listening import RunningListener


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def encrypted(make_listener: MakeListener, authority: Authority, *, asks: bool = True) -> RunningListener:
    own = authority.issue("gateway")
    options = {"TlsCertificate": str(own.certificate), "TlsPrivateKey": str(own.private_key)}
    if asks:
        options["TlsTrustedCertificates"] = str(authority.certificate)
    return make_listener(**options)


def refused(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client of TLS 1.3 is refused: it learns it with its first read."""
    try:
        with Sender(port, context) as sender:
            return sender.ask(order("1")) is None
    except OSError:
        return True


def test_orders_over_tls(make_listener: MakeListener, authority: Authority) -> None:
    listener = encrypted(make_listener, authority)
    with Sender(listener.port, authority.client_context(authority.issue("ris"))) as sender:
        for number in range(3):
            assert code_of(sender.ask(order(str(number), rest="NTE|1||" + "x" * 100_000))) == "AA"
    assert listener.acted_on() == ["0", "1", "2"]


def test_without_trusted_certificates_no_peer_is_asked_for_one(
    make_listener: MakeListener, authority: Authority
) -> None:
    listener = encrypted(make_listener, authority, asks=False)
    with Sender(listener.port, authority.client_context()) as sender:
        assert code_of(sender.ask(order("1"))) == "AA"


def test_who_has_no_good_certificate_is_not_heard(
    make_listener: MakeListener, authority: Authority, tmp_path: Path
) -> None:
    listener = encrypted(make_listener, authority)
    assert refused(listener.port, authority.client_context())
    stranger = Authority(tmp_path / "stranger").issue("ris")
    assert refused(listener.port, authority.client_context(stranger))
    expired = authority.issue("ris", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    assert refused(listener.port, authority.client_context(expired))
    with Sender(listener.port) as plain:
        plain.send(enclosed(order("1")))
        assert plain.receive() is None
    with Sender(listener.port, authority.client_context(authority.issue("ris"))) as sender:
        assert code_of(sender.ask(order("2"))) == "AA"
    assert listener.acted_on() == ["2"]
    wait_until(lambda: len(listener.log.keys_of("TLS fails")) == 4, 20, "not all have failed")
    reasons = [line["reason"] for line in listener.log.keys_of("TLS fails")]
    assert sorted(reasons) == [
        "CERTIFICATE_VERIFY_FAILED",
        "CERTIFICATE_VERIFY_FAILED",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        "WRONG_VERSION_NUMBER",
    ]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_reasons_of_failed_handshakes_are_those_of_the_runbook(
    make_listener: MakeListener, authority: Authority, tmp_path: Path
) -> None:
    listener = encrypted(make_listener, authority, asks=False)
    assert refused(listener.port, Authority(tmp_path / "other").client_context())
    old = authority.client_context()
    old.set_ciphers("AES256-SHA@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refused(listener.port, old)
    older = authority.client_context()
    older.set_ciphers("DEFAULT@SECLEVEL=0")
    older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_1
    assert refused(listener.port, older)
    with Sender(listener.port) as browser:
        browser.send(b"GET / HTTP/1.1\r\n\r\n")
        assert browser.receive() is None
    expected = ["HTTP_REQUEST", "NO_SHARED_CIPHER", "TLSV1_ALERT_UNKNOWN_CA", "UNSUPPORTED_PROTOCOL"]
    wait_until(lambda: len(listener.log.keys_of("TLS fails")) == len(expected), 20, "not all have failed")
    reasons = {line["reason"] for line in listener.log.keys_of("TLS fails")}
    assert reasons == set(expected)
    runbook = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert all(f"`{reason}`" in runbook for reason in reasons)


def test_when_it_stops_what_is_worked_on_is_acknowledged_over_tls(
    make_listener: MakeListener, authority: Authority
) -> None:
    listener = encrypted(make_listener, authority)
    with Sender(listener.port, authority.client_context(authority.issue("ris"))) as sender:
        listener.handler.may_go_on.clear()
        sender.send(enclosed(order("1")))
        wait_until(lambda: listener.handler.peers, 20, "the handler is not called")
        listener.ask_to_stop()
        listener.handler.may_go_on.set()
        assert code_of(sender.receive()) == "AA"
        assert sender.receive() is None
        listener.wait()
