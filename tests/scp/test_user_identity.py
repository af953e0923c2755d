"""User identity negotiation (PS3.7 D.3.3.7) with pynetdicom as the requestor: DCMTK's tools cannot offer one."""

import subprocess
import sys
from typing import Any, Final

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.scp.conftest import Log, StartGateway
from tests.support.dcmtk import echoscu
from tests.support.standalone import Gateway

PASSCODE: Final = "correct horse"


@pytest.fixture(scope="module")
def unconfigured(start_gateway: StartGateway) -> Gateway:
    return start_gateway()


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    """A gateway with two users, one of them with a passcode that the command has hashed."""
    hashed = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "hash-password"],
        input=PASSCODE + "\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return start_gateway(DicomGateway={"Users": {"Accepted": {"alice": hashed, "station": None}}})


def associate(
    gateway: Gateway, type: int, primary: bytes, secondary: bytes = b"", *, response: bool = False
) -> Association:
    """An association that offers the identity; established ones have answered a C-ECHO, and are released."""
    ae = AE("REQUESTOR")
    ae.add_requested_context(Verification)
    item = UserIdentityNegotiation()
    item.user_identity_type = type
    item.primary_field = primary
    item.secondary_field = secondary
    item.positive_response_requested = response
    association = ae.associate("127.0.0.1", gateway.dicom_port, ext_neg=[item])
    if association.is_established:
        assert association.send_c_echo().Status == 0
        association.release()
    return association


def server_response(association: Association) -> bytes | None:
    """The Server-response of the A-ASSOCIATE-AC, None if it has none."""
    item: Any = association.acceptor.user_identity
    return None if item is None else item.server_response


def rejection(association: Association) -> tuple[int, int, int]:
    """Result, source and reason of the A-ASSOCIATE-RJ."""
    assert association.is_rejected
    answer: Any = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("type", [1, 2, 3, 4, 5])
def test_every_identity_is_accepted_without_users(unconfigured: Gateway, type: int, response: bool) -> None:
    log = Log(unconfigured)
    association = associate(unconfigured, type, b"bob", b"hunter2" if type == 2 else b"", response=response)
    assert association.is_released
    assert server_response(association) == (b"" if response and type in (1, 2) else None)
    line = log.expect("INFO", "association released", "calling=REQUESTOR", "user=")
    assert ("user=bob" in line) == (type in (1, 2))
    assert "hunter2" not in unconfigured.log_text()


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize(
    ("type", "primary", "secondary"), [(2, b"alice", PASSCODE.encode()), (1, b"station", b""), (2, b"station", b"any")]
)
def test_users_of_the_list_may_associate(
    gateway: Gateway, type: int, primary: bytes, secondary: bytes, response: bool
) -> None:
    log = Log(gateway)
    association = associate(gateway, type, primary, secondary, response=response)
    assert association.is_released
    assert server_response(association) == (b"" if response else None)
    log.expect("INFO", "association released", f"user={primary.decode()}")


@pytest.mark.parametrize(
    ("type", "primary", "secondary", "reason"),
    [
        (2, b"alice", b"wrong", "the passcode is wrong"),
        (2, b"mallory", PASSCODE.encode(), "the user is not in Users.Accepted"),
        (1, b"alice", b"", "a user name without passcode"),
        (2, b"alice", b"x" * 60_000, "a passcode of more than 1024 bytes"),
        (3, b"ticket", b"", "Kerberos ticket as user identity"),
        (4, b"assertion", b"", "SAML assertion as user identity"),
        (5, b"token", b"", "JSON Web Token as user identity"),
    ],
)
def test_all_others_are_rejected(gateway: Gateway, type: int, primary: bytes, secondary: bytes, reason: str) -> None:
    log = Log(gateway)
    association = associate(gateway, type, primary, secondary, response=True)
    assert rejection(association) == (1, 2, 1)
    line = log.expect("WARNING", "association rejected", "calling=REQUESTOR", reason)
    assert ("mallory" in line) == (primary == b"mallory")
    assert PASSCODE not in gateway.log_text()


def test_peer_without_identity_is_rejected(gateway: Gateway) -> None:
    log = Log(gateway)
    answer = echoscu(gateway.dicom_port)
    assert answer.returncode != 0
    assert "Result: Rejected Permanent, Source: Service Provider (ACSE Related)" in answer.stdout + answer.stderr
    log.expect("WARNING", "association rejected", "no user identity, and Users.Required is true")
