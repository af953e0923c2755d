"""Barriers, with real sockets to workers and a real queue."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.deliveries import Wanted
from gateway.forwarding.barriers import Barriers
from gateway.forwarding.pending import Pending
from gateway.forwarding.queue import DeliveryQueue
from gateway.forwarding.refused import RefusedInstances
from gateway.spool import ORTHANC, Delivery, Spool

READY = Path("/spool/ready")
DEADLINE_S = 20


class Worker:
    """A worker's end of its connection."""

    def __init__(self, barriers: Barriers) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE_S)
        barriers.join(self.theirs)

    def hear(self) -> Any:
        return json.loads(self.ours.recv(65536))

    def has_heard_nothing(self) -> bool:
        return not select.select([self.ours], [], [], 0)[0]


def delivery(name: str, patient: str = "P1", study: str = "1.1", folder: Path = READY) -> Delivery:
    return Delivery(folder / name, 1, f"1.{name}", "", patient, study, "1.1.1", "A1")


@pytest.fixture
def queue() -> DeliveryQueue:
    return DeliveryQueue(quiet_s=60, patience_s=60)


@pytest.fixture
def refused(tmp_path: Path) -> RefusedInstances:
    spool = Spool(tmp_path / "state")
    spool.prepare()
    return RefusedInstances(spool)


@pytest.fixture
def barriers(queue: DeliveryQueue, refused: RefusedInstances) -> Iterator[Barriers]:
    made = Barriers({ORTHANC: queue}.get, READY, refused)
    made.complete()
    yield made


def end(barriers: Barriers, queue: DeliveryQueue, one: Delivery) -> None:
    """As the forwarder does."""
    assert queue.take(1) == [one]
    queue.done(one)
    barriers.ended(one.path)


def test_nothing_to_wait_for_is_said_at_once(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    queue.add(delivery("other", patient="P2"))
    queue.add(delivery("not-acknowledged", folder=Path("/spool/incoming/1")))
    barriers.ask(worker.theirs, 7, Wanted(patient_ids=frozenset({"P1"})))
    assert worker.hear() == {"barrier": 7}


def test_what_could_match_is_waited_for_and_sent_first(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    first, second = delivery("a", study="1.2"), delivery("b")
    queue.add(first)
    queue.add(second)
    barriers.ask(worker.theirs, 1, Wanted(study_instance_uids=frozenset({"1.1"})))
    assert worker.has_heard_nothing()
    end(barriers, queue, second)
    assert worker.hear() == {"barrier": 1}


def test_what_comes_after_the_question_is_not_waited_for(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    before = delivery("a")
    queue.add(before)
    barriers.ask(worker.theirs, 1, Wanted())
    queue.add(delivery("b"))
    end(barriers, queue, before)
    assert worker.hear() == {"barrier": 1}


def test_other_workers_say_first_what_they_have_acknowledged(barriers: Barriers, queue: DeliveryQueue) -> None:
    asking, other = Worker(barriers), Worker(barriers)
    barriers.ask(asking.theirs, 1, Wanted())
    number = other.hear()["flush"]
    assert asking.has_heard_nothing()
    untold = delivery("a")
    queue.add(untold)
    barriers.flushed(other.theirs, number)
    assert asking.has_heard_nothing()
    end(barriers, queue, untold)
    assert asking.hear() == {"barrier": 1}


def test_a_worker_that_dies_is_not_waited_for(barriers: Barriers) -> None:
    asking, other = Worker(barriers), Worker(barriers)
    barriers.ask(asking.theirs, 1, Wanted())
    barriers.leave(other.theirs)
    assert asking.hear() == {"barrier": 1}


def test_the_start_is_waited_for(queue: DeliveryQueue, refused: RefusedInstances) -> None:
    barriers = Barriers({ORTHANC: queue}.get, READY, refused)
    worker = Worker(barriers)
    barriers.ask(worker.theirs, 1, Wanted())
    assert worker.has_heard_nothing()
    barriers.complete()
    assert worker.hear() == {"barrier": 1}


def test_what_a_worker_acknowledged_that_has_not_connected_yet_is_looked_for(
    queue: DeliveryQueue, refused: RefusedInstances
) -> None:
    """One of two has connected, and asks."""
    one = delivery("a")

    def look() -> None:
        queue.add(one)

    barriers = Barriers({ORTHANC: queue}.get, READY, refused, receivers=2, rescan=look)
    barriers.complete()
    asking = Worker(barriers)
    barriers.receives(asking.theirs)
    barriers.ask(asking.theirs, 1, Wanted())
    assert asking.has_heard_nothing()
    end(barriers, queue, one)
    assert asking.hear() == {"barrier": 1}
    barriers.receives(Worker(barriers).theirs)
    barriers.ask(asking.theirs, 2, Wanted())
    assert len(queue) == 0, "with all of them connected nobody looks"


def test_a_forgotten_barrier_says_nothing(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    one = delivery("a")
    queue.add(one)
    barriers.ask(worker.theirs, 1, Wanted())
    barriers.forget(worker.theirs, 1)
    end(barriers, queue, one)
    barriers.ask(worker.theirs, 2, Wanted())
    assert worker.hear() == {"barrier": 2}


def test_an_instance_of_which_little_is_known_could_be_any() -> None:
    wanted = Wanted(patient_ids=frozenset({"P1"}), sop_instance_uids=frozenset({"1.a"}))
    assert wanted.may_be(delivery("a", patient=""))
    assert not wanted.may_be(delivery("b", patient=""))
    assert Wanted.from_json(wanted.to_json()) == wanted


def ask_and_list(worker: Worker, barriers: Barriers) -> list[str]:
    """What is missing now, asked for part by part."""
    missing: list[Any] = []
    while True:
        barriers.say_missing(worker.theirs, 1, len(missing))
        answer = worker.hear()
        missing += answer["instances"]
        if answer["is_all"]:
            return [identifiers[0] for identifiers in missing]


def test_what_is_late_is_missing(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    arrived, late = delivery("a"), delivery("c")
    for one in (arrived, late, delivery("other", patient="P2")):
        queue.add(one)
    barriers.ask(worker.theirs, 1, Wanted(patient_ids=frozenset({"P1"})), lists=True)
    end(barriers, queue, arrived)
    assert worker.has_heard_nothing()
    assert ask_and_list(worker, barriers) == ["1.c"]
    end(barriers, queue, late)
    assert worker.hear() == {"barrier": 1}
    barriers.forget(worker.theirs, 1)
    barriers.say_missing(worker.theirs, 1, 0)
    assert worker.has_heard_nothing()


def test_a_barrier_that_has_ended_still_says_what_is_missing(barriers: Barriers, queue: DeliveryQueue) -> None:
    worker = Worker(barriers)
    one = delivery("a")
    queue.add(one)
    barriers.ask(worker.theirs, 1, Wanted(), lists=True)
    end(barriers, queue, one)
    assert worker.hear() == {"barrier": 1}
    assert ask_and_list(worker, barriers) == []


def test_what_is_known_is_missing_when_a_worker_does_not_answer(barriers: Barriers, queue: DeliveryQueue) -> None:
    asking, silent = Worker(barriers), Worker(barriers)
    for number in range(1000):
        queue.add(delivery(str(number)))
    queue.add(delivery("other", patient="P2"))
    barriers.ask(asking.theirs, 1, Wanted(patient_ids=frozenset({"P1"})), lists=True)
    assert len(set(ask_and_list(asking, barriers))) == 1000
    assert silent.hear()


def test_whether_all_is_known_is_said(queue: DeliveryQueue, refused: RefusedInstances) -> None:
    """Not before the start is complete and every worker has said what it has acknowledged."""
    barriers = Barriers({ORTHANC: queue}.get, READY, refused)
    asking, other = Worker(barriers), Worker(barriers)

    def is_known() -> bool:
        barriers.say_missing(asking.theirs, 7, 0)
        answer = asking.hear()
        return bool(answer["is_known"]) if "missing" in answer else is_known()

    barriers.ask(asking.theirs, 7, Wanted(), lists=True)
    assert not is_known()
    barriers.complete()
    assert not is_known()
    barriers.flushed(other.theirs, other.hear()["flush"])
    assert is_known()


def test_what_is_pending_for_a_study_is_found_without_a_look_at_the_rest() -> None:
    class Looked(Wanted):
        looks = 0

        def may_be(self, delivery: Delivery) -> bool:
            Looked.looks += 1
            return super().may_be(delivery)

    pending = Pending()
    deliveries = [delivery(str(number), study=f"1.{number % 100}") for number in range(1000)]
    for one in deliveries:
        pending.add(one)
    pending.add(delivery("unknown", study=""))
    found = list(pending.matching(Looked(study_instance_uids=frozenset({"1.7"}))))
    assert len(found) == 11
    assert Looked.looks == 11
    for one in deliveries[:8]:
        pending.remove(one.path)
    assert len(list(pending.matching(Wanted(study_instance_uids=frozenset({"1.7"}))))) == 10
    assert len(list(pending.matching(Wanted(accession_numbers=frozenset({"A1"}), patient_ids=frozenset({"P2"}))))) == 0
    assert len(pending) == 993
