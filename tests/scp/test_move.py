"""C-MOVE as SCP: what the requester is told, and the life of the driver, whatever comes in between."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive.interface import STUDY_INSTANCE_UID, ArchiveUnavailable, Level, TooBroad
from gateway.moves.interface import MoveDrivers, MoveRequest, Outcome, SubOperation, Target
from scp.mover import running_movers
from scp.retrieval import Tally
from scp.statuses import Status
from tests.scp.serving import TIMEOUT_S, Serving, serving, until
from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, element
from tests.support.querying import keys
from tests.support.rawdicom import A_ABORT, A_RELEASE_RQ, Gone, pdu
from tests.support.retrieving import PATIENT_MOVE, PENDING, Retriever, Told

DONE: Final = SubOperation(Outcome.COMPLETED)
MODALITIES: Final = {
    "there": {"AET": "THERE", "Host": "127.0.0.1", "Port": 9},
    "tls": {"AET": "TLS", "Host": "127.0.0.1", "Port": 9, "UseDicomTls": True},
}
WITH_WILDCARD: Final = element(0x00080052, "CS", b"STUDY ") + element(0x0020000D, "UI", b"1.2*")


def failed(uid: str, reason: str = "it is broken") -> SubOperation:
    return SubOperation(Outcome.FAILED, uid, reason)


def warned(uid: str) -> SubOperation:
    return SubOperation(Outcome.WARNING, uid, "coerced")


class Driver:
    """A MoveDriver that does what it is told to: outcomes, or functions that give one."""

    def __init__(self, steps: Sequence[SubOperation | Callable[[], SubOperation]]) -> None:
        self.steps = list(steps)
        self.size_calls = self.applied = self.freed = 0
        self.size_fails = False

    def size(self) -> int:
        self.size_calls += 1
        if self.size_fails:
            raise ValueError("no size")
        return len(self.steps)

    def apply(self) -> SubOperation:
        assert not self.freed
        self.applied += 1
        step = self.steps[self.applied - 1]
        return step if isinstance(step, SubOperation) else step()

    def free(self) -> None:
        self.freed += 1


class Drivers:
    """Makes one driver, and keeps what it was made from."""

    def __init__(self) -> None:
        self.requests: list[MoveRequest] = []
        self.driver = Driver([])
        self.failure: Exception | None = None

    def create(self, request: MoveRequest, target: Target) -> Driver:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        return self.driver


@pytest.fixture(scope="module")
def made() -> Drivers:
    return Drivers()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, made: Drivers) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("gateway")
    with serving(directory, drivers=MoveDrivers(made.create, {}), DicomModalities=MODALITIES, DicomScpTimeout=1) as one:
        yield one


@pytest.fixture
def drivers(made: Drivers) -> Iterator[Drivers]:
    """Nothing runs any more after a test, and what was created was freed once."""
    made.__init__()  # type: ignore[misc]
    yield made
    until(lambda: not running_movers(), "a move goes on")
    assert made.driver.freed == (1 if made.requests and made.failure is None else 0)
    assert len(made.requests) <= 1


@pytest.fixture
def peer(gateway: Serving, drivers: Drivers) -> Iterator[Retriever]:
    with Retriever(gateway.port) as one:
        yield one.open()


def ask(peer: Retriever, drivers: Drivers, *steps: SubOperation | Callable[[], SubOperation]) -> None:
    drivers.driver = Driver(steps)
    peer.ask(keys("STUDY", StudyInstanceUID="1.2"), "THERE")


def move(peer: Retriever, drivers: Drivers, *steps: SubOperation | Callable[[], SubOperation]) -> Told:
    ask(peer, drivers, *steps)
    return peer.responses()[-1]


def test_all_are_counted(peer: Retriever, drivers: Drivers) -> None:
    assert move(peer, drivers, DONE, DONE, DONE) == Told(0x0000, None, 3, 0, 0)
    assert (drivers.driver.size_calls, drivers.driver.applied) == (1, 3)
    peer.release()


def test_failures_do_not_stop_the_rest(peer: Retriever, drivers: Drivers) -> None:
    told = move(peer, drivers, DONE, failed("1.1"), warned("1.2"), failed("1.3", "too late"), DONE)
    assert told == Told(0xB000, None, 2, 2, 1, "it is broken", None, ("1.1", "1.3"))


def test_warnings_alone_are_a_warning_without_a_list(peer: Retriever, drivers: Drivers) -> None:
    assert move(peer, drivers, warned("1.1"), DONE) == Told(0xB000, None, 1, 0, 1)


def test_all_failed(peer: Retriever, drivers: Drivers) -> None:
    told = move(peer, drivers, failed("1.1"), failed("1.2"))
    assert told == Told(0xA702, None, 0, 2, 0, "it is broken", None, ("1.1", "1.2"))


def test_nothing_matched_is_success(peer: Retriever, drivers: Drivers) -> None:
    assert move(peer, drivers) == Told(0x0000, None, 0, 0, 0)
    assert drivers.driver.applied == 0


@given(st.lists(st.sampled_from(Outcome), max_size=20))
def test_outcome_follows_from_the_numbers(outcomes: list[Outcome]) -> None:
    """PS3.4 C.4.2.1.5, and the numbers add up at each moment."""
    tally = Tally()
    tally.total = len(outcomes)
    for number, outcome in enumerate(outcomes):
        tally.add(SubOperation(outcome, f"1.{number}", "reason"))
        counters = tally.counters(remaining=True)
        assert counters.remaining == len(outcomes) - number - 1
        assert counters.completed + counters.failed + counters.warning == number + 1
    bad = outcomes.count(Outcome.FAILED)
    expected = Status.SUCCESS
    if outcomes and bad == len(outcomes):
        expected = Status.RETRIEVE_CANNOT_PERFORM
    elif set(outcomes) - {Outcome.COMPLETED}:
        expected = Status.RETRIEVE_WARNING
    assert tally.answer().status is expected
    assert tally.failed_uids == [f"1.{n}" for n, outcome in enumerate(outcomes) if outcome is Outcome.FAILED]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("count", [1, 2000])
def test_failed_list_is_complete_in_each_transfer_syntax(
    gateway: Serving, drivers: Drivers, syntax: str, count: int
) -> None:
    """2,000 UIDs do not fit into an explicit length of 16 bits."""
    uids = [f"1.2.840.10008.1234567890.1234567890.1234567890.{number}" for number in range(count)]
    with Retriever(gateway.port) as peer:
        told = move(peer.open(transfer_syntax=syntax), drivers, *(failed(uid) for uid in uids), DONE)
    assert (told.status, told.failed, list(told.failed_uids)) == (0xB000, count, uids)


def test_driver_is_made_of_what_was_asked(gateway: Serving, drivers: Drivers) -> None:
    """With the keys of RegisterMoveCallback2: several values joined, what is missing empty."""
    with Retriever(gateway.port) as peer:
        peer.open(PATIENT_MOVE, calling="ASKER", called="ANY")
        identifier = keys("IMAGE", SOPInstanceUID="1.2\\1.3", StudyInstanceUID="", PatientID="P 1")
        peer.ask(identifier, "THERE", message_id=77)
        peer.responses()
    assert drivers.requests[0].as_dictionary() == {
        "Level": "INSTANCE",
        "PatientID": "P 1",
        "AccessionNumber": "",
        "StudyInstanceUID": "",
        "SeriesInstanceUID": "",
        "SOPInstanceUID": "1.2\\1.3",
        "OriginatorAET": "ASKER",
        "SourceAET": "ANY",
        "TargetAET": "THERE",
        "OriginatorID": 77,
    }


def test_pending_responses_go_on_while_a_sub_operation_blocks(peer: Retriever, drivers: Drivers) -> None:
    """One a second at least, their numbers as they are; an idle timeout (1 s here) does not end the association."""
    go = threading.Event()

    def block() -> SubOperation:
        assert go.wait(TIMEOUT_S)
        return DONE

    ask(peer, drivers, DONE, block, failed("1.1"))
    told, times = [peer.told()], [time.monotonic()]
    while len(told) < 5:
        told.append(peer.told())
        times.append(time.monotonic())
    go.set()
    assert all(one.status == PENDING and sum(map(int, map(str, one.counters))) == 3 for one in told)
    assert told[-1].counters == (2, 1, 0, 0)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1
    assert peer.responses()[-1].counters == (None, 2, 1, 0)
    peer.release()


def test_cancel_ends_after_the_sub_operation_under_way(peer: Retriever, drivers: Drivers) -> None:
    go = threading.Event()

    def block() -> SubOperation:
        assert go.wait(TIMEOUT_S)
        return DONE

    ask(peer, drivers, failed("1.1"), block, DONE, DONE)
    while peer.told().counters != (3, 0, 1, 0):
        pass
    peer.cancel()
    threading.Timer(0.3, go.set).start()
    last = peer.responses()[-1]
    assert last == Told(0xFE00, 2, 1, 1, 0, "cancelled by the peer", None, ("1.1",))
    assert drivers.driver.applied == 2
    assert peer.move("THERE", "STUDY", StudyInstanceUID="").status == 0xA900
    peer.release()


def test_cancel_does_not_wait_for_what_never_ends(peer: Retriever, drivers: Drivers) -> None:
    go = threading.Event()

    def block() -> SubOperation:
        assert go.wait(TIMEOUT_S)
        return DONE

    ask(peer, drivers, block, DONE)
    peer.told()
    peer.cancel()
    assert peer.responses()[-1].counters == (2, 0, 0, 0)
    go.set()


@pytest.mark.parametrize("end", ["abort", "release", "vanish"])
def test_end_of_the_association_ends_the_move(peer: Retriever, drivers: Drivers, end: str) -> None:
    going_on = threading.Event()

    def block() -> SubOperation:
        going_on.wait(0.05)
        return DONE

    ask(peer, drivers, *[block] * 1000)
    peer.told()
    if end == "abort":
        peer.send(pdu(A_ABORT, bytes(4)))
    elif end == "release":
        peer.send(pdu(A_RELEASE_RQ, bytes(4)))
    else:
        peer.vanish()
    until(lambda: drivers.driver.freed, "the driver is not freed")
    assert 0 < drivers.driver.applied < 1000


@pytest.mark.parametrize("failure", [ArchiveUnavailable("no answer"), TooBroad("too much")])
def test_matches_that_cannot_be_counted(peer: Retriever, drivers: Drivers, failure: Exception) -> None:
    drivers.failure = failure
    assert move(peer, drivers) == Told(0xA701, None, None, None, None, str(failure))
    peer.release()


def test_errors_of_a_driver_are_answered(gateway: Serving, peer: Retriever, drivers: Drivers) -> None:
    """PS3.4 has 0xC000 for it. RegisterMoveCallback2 of Orthanc's plugin loses the association at some."""
    drivers.failure = ValueError("no driver")
    assert move(peer, drivers).status == 0xC000
    peer.release()


@pytest.mark.parametrize("where", ["size", "apply"])
def test_errors_of_a_driver_free_it(peer: Retriever, drivers: Drivers, where: str) -> None:
    def fail() -> SubOperation:
        raise ValueError("no")

    drivers.driver = Driver([DONE, fail, DONE])
    drivers.driver.size_fails = where == "size"
    peer.ask(keys("STUDY", StudyInstanceUID="1.2"), "THERE")
    assert peer.responses()[-1].status == 0xC000
    assert drivers.driver.applied == (2 if where == "apply" else 0)
    peer.release()


@pytest.mark.parametrize(
    ("destination", "identifier", "status", "tag"),
    [
        ("NOBODY", keys("STUDY", StudyInstanceUID="1.2"), 0xA801, 0x0600),
        ("THERE", keys("STUDY", PatientID="P1"), 0xA900, STUDY_INSTANCE_UID),
        ("THERE", WITH_WILDCARD, 0xA900, STUDY_INSTANCE_UID),
        ("THERE", keys("PATIENT", PatientID="P1"), 0xA900, 0x00080052),
        ("THERE", keys("", PatientName="X"), 0xA900, 0x00080052),
        ("THERE", keys("NONSENSE", StudyInstanceUID="1.2"), 0xA900, 0x00080052),
        ("THERE", b"\x08\x00\x52\x00CS\xff\xffSTUDY ", 0xC000, 0x00080052),
        ("THERE", None, 0xA900, 0x00080052),
        ("TLS", keys("STUDY", StudyInstanceUID="1.2"), 0xA702, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_cannot_be_served(
    peer: Retriever, drivers: Drivers, destination: str, identifier: object, status: int, tag: int | None
) -> None:
    peer.ask(identifier, destination)  # type: ignore[arg-type]
    (told,) = peer.responses()
    assert (told.status, told.offending_element) == (status, tag)
    assert told.comment
    assert not drivers.requests
    peer.release()


def test_level_may_be_missing(peer: Retriever, drivers: Drivers) -> None:
    """Some requesters send none; Orthanc's server then takes the lowest that has a key."""
    peer.ask(keys("", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID=""), "THERE")
    assert peer.responses()[-1].status == 0
    assert drivers.requests[0].level is Level.SERIES


def test_accession_number_stands_for_a_study(peer: Retriever, drivers: Drivers) -> None:
    peer.ask(keys("STUDY", AccessionNumber="A1"), "THERE")
    assert peer.responses()[-1].status == 0
    assert drivers.requests[0].selection().identifiers == {0x00080050: ("A1",)}


def test_keys_below_the_level_do_not_narrow_a_selection(peer: Retriever, drivers: Drivers) -> None:
    peer.ask(keys("STUDY", StudyInstanceUID="1.2\\1.4", SOPInstanceUID="1.3"), "THERE")
    assert peer.responses()[-1].status == 0
    assert drivers.requests[0].selection().identifiers == {STUDY_INSTANCE_UID: ("1.2", "1.4")}


@pytest.mark.parametrize(("strict", "status"), [(True, 0xA801), (False, 0x0000)])
def test_destinations_are_compared_as_ae_titles_are(
    tmp_path: Path, drivers: Drivers, strict: bool, status: int
) -> None:
    options = {"DicomModalities": MODALITIES, "StrictAetComparison": strict}
    with serving(tmp_path, drivers=MoveDrivers(drivers.create, {}), **options) as one, Retriever(one.port) as peer:
        assert peer.open().move("there", "STUDY", StudyInstanceUID="1.2").status == status


def test_driver_is_chosen_by_the_called_ae_title(tmp_path: Path, drivers: Drivers) -> None:
    others = Drivers()
    chosen = MoveDrivers(others.create, {"SPECIAL": drivers.create})
    with serving(tmp_path, drivers=chosen, DicomModalities=MODALITIES) as one, Retriever(one.port) as peer:
        assert peer.open(called="SPECIAL").move("THERE", "STUDY", StudyInstanceUID="1.2").status == 0
    assert (len(drivers.requests), len(others.requests)) == (1, 0)


def test_asynchronous_move_is_answered_at_once(tmp_path: Path, drivers: Drivers) -> None:
    """SynchronousCMove false: as Orthanc says it, all is done; the move goes on without its requester."""
    go = threading.Event()

    def block() -> SubOperation:
        assert go.wait(TIMEOUT_S)
        return DONE

    options = {"DicomModalities": MODALITIES, "SynchronousCMove": False}
    with serving(tmp_path, drivers=MoveDrivers(drivers.create, {}), **options) as one, Retriever(one.port) as peer:
        ask(peer.open(), drivers, block, DONE)
        assert peer.responses() == [Told(0x0000, None, 2, 0, 0)]
        peer.release()
        assert drivers.driver.freed == 0
        go.set()
        until(lambda: drivers.driver.freed, "the move does not end")
    assert drivers.driver.applied == 2


def test_second_request_before_the_last_response_ends_the_association(peer: Retriever, drivers: Drivers) -> None:
    pause = threading.Event()

    def block() -> SubOperation:
        pause.wait(0.05)
        return DONE

    ask(peer, drivers, *[block] * 1000)
    peer.told()
    peer.ask(keys("STUDY", StudyInstanceUID="1.2"), "THERE")
    with pytest.raises(Gone):
        peer.responses()
