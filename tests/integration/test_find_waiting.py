"""A peer that gives up its query is heard while nobody has an answer: Orthanc, a DICOMweb server, a script."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.gateways import section
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.querying import STUDY_ROOT, Querier, keys
from tests.support.rawdicom import A_ABORT, A_RELEASE_RP, A_RELEASE_RQ, EXPLICIT, Context, pdu
from tests.support.scripted_http import ScriptedHttp
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

# Who does not hear the peer answers when the archive's time is over: after 60 s.
HEARD_WITHIN_S = 20.0

SCRIPT = """
import time, orthanc

def on_find(answers, query, issuer_aet, called_aet):
    time.sleep(600)

orthanc.RegisterFindCallback(on_find)
"""


@pytest.fixture(scope="module")
def silent_server() -> Iterator[ScriptedHttp]:
    over = threading.Event()

    def say_nothing(_connection: object, _path: str, _number: int) -> bool:
        return over.wait(120)

    with ScriptedHttp(say_nothing) as server:
        yield server
    over.set()


@pytest.fixture(scope="module")
def stopped_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.start()
    yield server
    os.kill(server.pid, signal.SIGCONT)
    server.close()


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, silent_server: ScriptedHttp, stopped_orthanc: Orthanc
) -> Iterator[dict[str, Gateway]]:
    folder = tmp_path_factory.mktemp("gateways")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    options = section(
        stopped_orthanc,
        QueryBarrierTimeout=0,
        DicomWebServers={"SERVER": {"Url": silent_server.url, "AlwaysAllowFind": True}},
    )
    plain = Gateway(folder / "plain", DicomAlwaysAllowFind=True, DicomAlwaysAllowGet=True, DicomGateway=options)
    scripted = Gateway(
        folder / "scripted",
        DicomAlwaysAllowFind=True,
        DicomGateway={**options, "Script": str(script), "ScriptOptions": {"FindTimeout": 600}},
    )
    try:
        plain.start()
        scripted.start()
        os.kill(stopped_orthanc.pid, signal.SIGSTOP)
        yield {"ORTHANC": plain, "SERVER": plain, "SCRIPT": scripted}
    finally:
        plain.close()
        scripted.close()


@pytest.fixture(params=["ORTHANC", "SERVER", "SCRIPT"])
def asking(request: pytest.FixtureRequest, gateways: dict[str, Gateway]) -> Iterator[Querier]:
    """A peer whose query has been handed on to somebody who does not answer."""
    gateway = gateways[request.param]
    with Querier(gateway.dicom_port) as peer:
        peer.syntax = EXPLICIT
        called = "SERVER" if request.param == "SERVER" else "ORTHANC"
        peer.associate([Context(1, STUDY_ROOT, [EXPLICIT])], calling="FINDER", called=called)
        peer.ask(keys("STUDY", PatientID="NOBODY"))
        time.sleep(0.5)  # nothing tells that a question has arrived at who says nothing
        yield peer


@pytest.fixture
def in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < HEARD_WITHIN_S


@pytest.mark.usefixtures("in_time")
def test_cancel_is_answered_and_the_association_goes_on(asking: Querier) -> None:
    asking.cancel()
    found = asking.all_answers()
    assert (found.status, found.answers) == (0xFE00, [])
    asking.ask(keys("STUDY", PatientID="NOBODY"), message_id=2)
    asking.cancel(message_id=2)
    assert asking.all_answers().status == 0xFE00
    asking.release()


@pytest.mark.usefixtures("in_time")
def test_release_is_answered(asking: Querier) -> None:
    asking.send(pdu(A_RELEASE_RQ, bytes(4)))
    assert asking.ends()[-1].type == A_RELEASE_RP


@pytest.mark.parametrize(
    "leave", [lambda peer: peer.send(pdu(A_ABORT, bytes(4))), lambda peer: peer.__exit__(None, None, None)]
)
def test_a_peer_that_is_gone_leaves_no_thread_behind(
    gateways: dict[str, Gateway], asking: Querier, leave: Callable[[Querier], None]
) -> None:
    def ended() -> int:
        return sum(gateway.log_text().count("association ended without release") for gateway in set(gateways.values()))

    before = ended()
    leave(asking)
    wait_until(lambda: ended() > before, HEARD_WITHIN_S, "the association has not ended")


@pytest.mark.usefixtures("in_time")
def test_a_peer_that_goes_on_talking_is_answered(asking: Querier) -> None:
    """The query goes on, and is given up later."""
    with asking.in_one_segment():
        asking.cancel(message_id=9)  # of another
    time.sleep(1)
    asking.cancel()
    assert asking.all_answers().status == 0xFE00
