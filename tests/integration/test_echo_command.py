"""`dicom-gateway echo`: is the modality reachable from here, and if not, at which step does it end?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.modalities import KnownModalities
from gateway.options import config
from gateway.options.orthanc import Modality
from tests.conftest import MakeOrthanc
from tests.support.ports import free_port
from tests.support.rawdicom import A_ABORT, A_ASSOCIATE_RJ, C_ECHO_RQ, pdu
from tests.support.rawscp import Proposal, RawConnection, RawScp, associate_ac, response
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

TIME: Final = re.compile(r" \(\d+\.\d ms\)$", re.MULTILINE)

Echo = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def echo(tmp_path: Path) -> Echo:
    """Runs the command on a configuration with these modalities; status and lines, without times and problems' sign."""

    def run(target: str, modalities: dict[str, Any] | None = None, **options: Any) -> tuple[int, list[str]]:
        file = tmp_path / "orthanc.json"
        file.write_text(json.dumps({"DicomAet": "US", "DicomModalities": modalities or {}, **options}))
        ran = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "echo", target, str(file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in ran.stderr
        return ran.returncode, (TIME.sub("", ran.stdout) + ran.stderr).splitlines()

    return run


def test_modality_that_is_reachable(echo: Echo, tmp_path: Path) -> None:
    server = StoreScp(tmp_path / "storescp")
    server.start()
    try:
        status, lines = echo("pacs", {"pacs": ["STORESCP", "127.0.0.1", server.port]})
    finally:
        server.close()
    lines[2] = re.sub(r":\d+$", ":PORT", lines[2])
    assert lines == [
        f"AE title STORESCP at 127.0.0.1, port {server.port}; we are US, and wait 10 s at most",
        "name: 127.0.0.1",
        "connection: from 127.0.0.1:PORT",
        "association: accepted by OFFIS_DCMTK_367, which takes PDUs of 16384 bytes at most",
        "C-ECHO: status 0x0000",
        "release: in order",
    ]
    assert status == 0


def test_orthanc_is_reachable_by_address(echo: Echo, make_orthanc: MakeOrthanc) -> None:
    orthanc = make_orthanc(dicom_server=True)
    orthanc.start()
    status, lines = echo(f"ORTHANC@localhost:{orthanc.dicom_port}")
    assert status == 0
    assert lines[-2:] == ["C-ECHO: status 0x0000", "release: in order"]


def test_modality_is_called_as_its_entry_says(echo: Echo) -> None:
    seen: list[Proposal] = []

    def script(peer: RawConnection) -> None:
        seen.append(peer.accept())
        peer.answer(peer.request())
        peer.ends()

    with RawScp(script) as scp:
        entry = {"AET": "THEM", "Host": "127.0.0.1", "Port": scp.port, "LocalAet": "OTHER", "Timeout": 1}
        status, lines = echo("pacs", {"pacs": entry})
    assert (seen[0].called, seen[0].calling) == ("THEM", "OTHER")
    assert "we are OTHER, and wait 1 s at most" in lines[0]
    # It does not answer the A-RELEASE-RQ, which harms nobody.
    assert (status, lines[-1]) == (0, "release: not in order")


def refuse(peer: RawConnection) -> None:
    peer.proposal()
    peer.send(pdu(A_ASSOCIATE_RJ, bytes([0, 1, 1, 3])))
    peer.ends()


def accept_nothing(peer: RawConnection) -> None:
    peer.proposal()
    peer.send(associate_ac({1: (3, "1.2.840.10008.1.2")}))
    peer.ends()


def abort_the_echo(peer: RawConnection) -> None:
    peer.accept()
    peer.request()
    peer.send(pdu(A_ABORT, bytes(4)))
    peer.ends()


def answer_with_an_error(peer: RawConnection) -> None:
    peer.accept()
    request = peer.request()
    peer.send(response(1, C_ECHO_RQ, request.message_id, 0x0122, e0902=b"not \x1b[2Jyou "))
    peer.ends()


def be_silent(peer: RawConnection) -> None:
    peer.proposal()
    peer.ends()


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (refuse, "association: rejected permanently by the service user: calling AE title not recognized"),
        (accept_nothing, "association: none of 1 presentation contexts was accepted"),
        (abort_the_echo, "C-ECHO: aborted by the peer (service user)"),
        (answer_with_an_error, "C-ECHO: status 0x0122: not ?[2Jyou"),
        (be_silent, "association: timed out waiting for the answer to A-ASSOCIATE: sent nothing for too long"),
    ],
)
def test_modality_that_fails_at_a_step(echo: Echo, script: Callable[[RawConnection], None], last: str) -> None:
    with RawScp(script) as scp:
        status, lines = echo(f"THEM@127.0.0.1:{scp.port}", DicomScuTimeout=1)
    problems = [line for line in lines if line.startswith("PROBLEM: ")]
    assert (status, problems) == (1, [f"PROBLEM: {last}"])


def test_port_where_nobody_listens(echo: Echo) -> None:
    port = free_port()
    status, lines = echo(f"THEM@127.0.0.1:{port}")
    problem = f"PROBLEM: connection: no connection to 127.0.0.1:{port}: Connection refused"
    assert (status, lines[1:]) == (1, ["name: 127.0.0.1", problem])


def test_name_that_does_not_resolve(echo: Echo) -> None:
    status, lines = echo("THEM@no-such-host.invalid:104")
    assert status == 1
    assert lines[-1].startswith("PROBLEM: name: no-such-host.invalid: ")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("pax", "pax is neither a known modality (mri, pacs) nor of the form AET@HOST:PORT"),
        ("A@h:99999", "A@h:99999: Port: Input should be less than or equal to 65535"),
        ("SEVENTEEN_LETTERS@h:104", "expected an AE title of 1 to 16"),
        ("tls", "PROBLEM: TLS: DicomTlsTrustedCertificates: expected the path of a file, because of UseDicomTls"),
    ],
)
def test_target_that_is_none(echo: Echo, target: str, text: str) -> None:
    modalities: dict[str, Any] = {"pacs": ["A", "h", 104], "mri": ["B", "h", 104]}
    if target == "tls":
        modalities["tls"] = {"AET": "T", "Host": "h", "Port": 2762, "UseDicomTls": True}
    status, lines = echo(target, modalities)
    assert status == 1
    assert text in lines[-1]


def test_modality_that_was_added_to_orthanc_while_it_ran(echo: Echo, tmp_path: Path) -> None:
    """The gateway follows Orthanc's list; the command knows what the gateway knows."""
    content = {"DicomAet": "US", "DicomGateway": {"StateDirectory": str(tmp_path / "state")}}
    (tmp_path / "state").mkdir()
    known = KnownModalities(config.parse(content, tmp_path))
    known.save({"new": Modality(AET="NEW", Host="127.0.0.1", Port=free_port())})
    status, lines = echo("new", DicomGateway=content["DicomGateway"])
    assert status == 1
    assert lines[0].startswith("AE title NEW at 127.0.0.1, ")


def test_address_of_version_6(echo: Echo) -> None:
    port = free_port()
    status, lines = echo(f"THEM@[::1]:{port}")
    assert status == 1
    assert f"port {port}" in lines[0]
    assert lines[0].startswith("AE title THEM at ::1, ")
