"""The queue of deliveries against a simple model, on a clock that the test moves."""

import threading
from collections import defaultdict
from pathlib import Path
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from gateway.deliveries import Wanted
from gateway.forwarding.queue import BATCH_BYTES, SMALL_BYTES, DeliveryQueue
from gateway.spool import Delivery

DEADLINE_S = 30


class WouldBlock(Exception):
    """`take` has nothing to give out now."""


class NoWait(threading.Condition):
    """Tells how long would have been waited."""

    def wait(self, timeout: float | None = None) -> bool:
        raise WouldBlock(timeout)


class QueueMachine(RuleBasedStateMachine):
    """The model: a list of what may go next, in order; a list per SOP Instance UID; a list of what waits for a time."""

    out = Bundle("out")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.queue = DeliveryQueue(clock=lambda: self.now)
        self.queue._changed = NoWait()
        self.number = 0
        self.next: list[Delivery] = []
        self.delayed: list[tuple[float, Delivery]] = []
        self.taken: list[Delivery] = []
        self.alone: set[Path] = set()
        self.by_uid: dict[str, list[Delivery]] = defaultdict(list)
        self.held_until: float | None = None
        self.probe: list[Delivery] = []
        self.added: list[Delivery] = []
        self.finished: list[Delivery] = []
        self.withdrawn: list[Delivery] = []

    def known(self) -> list[Delivery]:
        return [delivery for deliveries in self.by_uid.values() for delivery in deliveries]

    @rule(
        uid=st.sampled_from("ABCDEFGH"),
        size=st.sampled_from([1, SMALL_BYTES // 3, SMALL_BYTES, SMALL_BYTES + 1]),
        urgent=st.booleans(),
    )
    def add(self, uid: str, size: int, urgent: bool) -> None:
        self.number += 1
        delivery = Delivery(Path(f"{self.number}.dcm"), size, uid, "")
        assert self.queue.add(delivery, urgent=urgent)
        assert not self.queue.add(delivery, urgent=urgent)
        self.added.append(delivery)
        self.by_uid[uid].append(delivery)
        if self.by_uid[uid] == [delivery]:
            self.next.insert(0 if urgent else len(self.next), delivery)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=out, count=st.integers(1, 6))
    def take(self, count: int) -> list[Delivery]:
        self.delayed.sort(key=lambda entry: entry[0])
        while self.delayed and self.delayed[0][0] <= self.now:
            self.next.append(self.delayed.pop(0)[1])
        waits = self.held_until is not None and (self.now < self.held_until or bool(self.probe))
        try:
            batch = self.queue.take(count)
        except WouldBlock as block:
            assert waits or not self.next
            due = [time for time, _delivery in self.delayed[:1]]
            if self.held_until is not None and not self.probe and self.next:
                due.append(self.held_until)
            assert block.args[0] == (min(due) - self.now if due else None)
            return []
        assert not waits
        assert batch[0] == self.next[0]
        assert len(batch) <= count
        assert len({delivery.sop_instance_uid for delivery in batch}) == len(batch)
        if len(batch) > 1:
            assert sum(delivery.size for delivery in batch) <= BATCH_BYTES
            assert all(delivery.size <= SMALL_BYTES and delivery.path not in self.alone for delivery in batch)
        for delivery in batch:
            assert self.by_uid[delivery.sop_instance_uid][0] is delivery
            self.next.remove(delivery)
        self.taken += batch
        if self.held_until is not None:
            self.probe = list(batch)
        return batch

    @rule(batch=consumes(out))
    def done(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            self.queue.done(delivery)
            self.taken.remove(delivery)
            self.finished.append(delivery)
            self._leave(delivery)

    @rule(batch=consumes(out), delay=st.sampled_from([0.0, 1.0, 3.0]))
    def retry(self, batch: list[Delivery], delay: float) -> None:
        for delivery in batch:
            self.queue.retry(delivery, delay)
            self.taken.remove(delivery)
            self.alone.add(delivery.path)
            self.delayed.append((self.now + delay, delivery))
            self._end_probe(delivery)

    @rule(delay=st.sampled_from([1.0, 5.0]))
    def hold(self, delay: float) -> None:
        self.queue.hold(delay)
        self.held_until = self.now + delay
        self.probe = []

    @rule()
    def release(self) -> None:
        assert self.queue.release() == (self.held_until is not None)
        self.held_until = None
        self.probe = []

    @precondition(lambda self: self.added)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from(self.added))
        possible = delivery in self.known() and delivery not in self.taken
        assert self.queue.withdraw(delivery.path) == possible
        if possible:
            self.withdrawn.append(delivery)
            self.delayed = [entry for entry in self.delayed if entry[1] is not delivery]
            self._leave(delivery)

    def _leave(self, delivery: Delivery) -> None:
        waiting = self.by_uid[delivery.sop_instance_uid]
        was_first = waiting[0] is delivery
        waiting.remove(delivery)
        if delivery in self.next:
            self.next.remove(delivery)
        if was_first and waiting:
            self.next.append(waiting[0])
        self._end_probe(delivery)

    def _end_probe(self, delivery: Delivery) -> None:
        self.probe = [one for one in self.probe if one is not delivery]

    @invariant()
    def what_is_known_is_in_the_queue(self) -> None:
        assert len(self.queue) == len(self.known())
        assert all(delivery.path in self.queue for delivery in self.known())
        assert not any(delivery.path in self.queue for delivery in self.finished + self.withdrawn)
        assert self.queue.is_held() == (self.held_until is not None and self.now < self.held_until)

    def teardown(self) -> None:
        """In the end everything comes out once, each UID in its order."""
        self.queue.release()
        self.held_until, self.probe = None, []
        for delivery in list(self.taken):
            self.done([delivery])
        while self.known():
            self.now += 100
            self.done(self.take(3))
        assert sorted(self.finished + self.withdrawn, key=str) == sorted(self.added, key=str)
        for uid in "ABCDEFGH":
            expected = [one for one in self.added if one.sop_instance_uid == uid and one not in self.withdrawn]
            assert [one for one in self.finished if one.sop_instance_uid == uid] == expected


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueAgainstModel = QueueMachine.TestCase


def test_threads_deliver_each_instance_once_and_never_two_of_one_uid() -> None:
    queue = DeliveryQueue()
    seed = Random(1)
    deliveries = [Delivery(Path(str(n)), seed.choice([10, SMALL_BYTES + 1]), f"{n % 20}", "") for n in range(400)]
    lock, over = threading.Lock(), threading.Event()
    busy: set[str] = set()
    finished: list[Delivery] = []
    overlaps: list[Delivery] = []

    def send(random: Random) -> None:
        while batch := queue.take(5):
            with lock:
                overlaps.extend(delivery for delivery in batch if delivery.sop_instance_uid in busy)
                busy.update(delivery.sop_instance_uid for delivery in batch)
            for delivery in batch:
                with lock:
                    busy.remove(delivery.sop_instance_uid)
                    again = random.random() < 0.3
                    if not again:
                        finished.append(delivery)
                if again:
                    queue.retry(delivery, random.random() / 100)
                else:
                    queue.done(delivery)
                    if random.random() < 0.05:
                        queue.hold(0.002)
                    else:
                        queue.release()
            if len(finished) == len(deliveries):
                over.set()

    threads = [threading.Thread(target=send, args=(Random(n),), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for delivery in deliveries:
        queue.add(delivery)
    assert over.wait(DEADLINE_S), f"{len(finished)} of {len(deliveries)}"
    queue.stop()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert overlaps == []
    assert len(queue) == 0
    by_uid: dict[str, list[int]] = defaultdict(list)
    for delivery in finished:
        by_uid[delivery.sop_instance_uid].append(int(delivery.path.name))
    assert all(numbers == sorted(set(numbers)) for numbers in by_uid.values())
    assert sum(map(len, by_uid.values())) == len(deliveries)


def test_delayed_instance_wakes_a_sender_although_another_one_is_busy() -> None:
    queue = DeliveryQueue()
    first, second = (Delivery(Path(name), SMALL_BYTES + 1, name, "") for name in ("first", "second"))
    taken: list[Delivery] = []
    both = threading.Barrier(3)

    def send() -> None:
        taken.extend(queue.take(1))
        both.wait(DEADLINE_S)  # busy until the other one has work as well

    queue.add(first)
    queue.add(second)
    queue.take(1)
    queue.take(1)
    threads = [threading.Thread(target=send, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.retry(first, 0.05)
    queue.retry(second, 0.05)
    both.wait(DEADLINE_S)
    assert {delivery.sop_instance_uid for delivery in taken} == {"first", "second"}


def test_batch_ends_at_its_bytes_and_takes_small_instances_only() -> None:
    queue = DeliveryQueue()
    fit = BATCH_BYTES // SMALL_BYTES
    sizes = [SMALL_BYTES - 1] * (fit + 1) + [SMALL_BYTES + 1] + [10] * 3
    for number, size in enumerate(sizes):
        queue.add(Delivery(Path(str(number)), size, str(number), ""))
    batches = [[delivery.size for delivery in queue.take(100)] for _ in range(3)]
    assert batches == [[SMALL_BYTES - 1] * fit, [SMALL_BYTES - 1, 10, 10, 10], [SMALL_BYTES + 1]]


def test_delayed_instances_come_by_their_time_though_others_were_withdrawn() -> None:
    now = 0.0
    queue = DeliveryQueue(clock=lambda: now)
    random = Random(3)
    deliveries = [Delivery(Path(str(number)), 10, str(number), "") for number in range(60)]
    for delivery in deliveries:
        queue.add(delivery)
    assert len(queue.take(100)) == 60
    delays = {delivery.path: random.uniform(1, 100) for delivery in deliveries}
    for delivery in deliveries:
        queue.retry(delivery, delays[delivery.path])
    rest = [delivery for delivery in deliveries if random.random() < 0.5 or not queue.withdraw(delivery.path)]
    taken = []
    for delay in sorted(delays[delivery.path] for delivery in rest):
        now = delay
        taken += queue.take(100)
    assert [delays[delivery.path] for delivery in taken] == sorted(delays[delivery.path] for delivery in rest)


def test_stop_ends_every_take() -> None:
    queue = DeliveryQueue()
    ended = [threading.Event() for _ in range(3)]

    def send(event: threading.Event) -> None:
        assert queue.take(1) == []
        event.set()

    for event in ended:
        threading.Thread(target=send, args=(event,), daemon=True).start()
    queue.stop()
    assert all(event.wait(DEADLINE_S) for event in ended)
    queue.add(Delivery(Path("late"), 1, "1", ""))
    assert queue.take(1) == []


class Held:
    """A queue that waits for a pause of 10 ms, for 2 s at most; `take` gives what goes now."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.queue = DeliveryQueue(clock=lambda: self.now, quiet_s=0.01, patience_s=2.0)
        self.queue._changed = NoWait()

    def add(self, number: int, *, urgent: bool = False) -> Delivery:
        delivery = Delivery(Path(f"{number}.dcm"), 1, f"1.2.{number}", "")
        self.queue.add(delivery, urgent=urgent)
        return delivery

    def take(self) -> list[Delivery]:
        try:
            return self.queue.take(20)
        except WouldBlock:
            return []


def test_nothing_is_given_out_while_instances_arrive() -> None:
    held = Held()
    for number in range(100):
        held.add(number)
        held.now += 0.009
        assert not held.take()
    held.now += 0.001
    assert len(held.take()) == 20


def test_who_waits_knows_when_the_pause_would_be_long_enough() -> None:
    held = Held()
    held.add(1)
    held.now += 0.004
    try:
        held.queue.take(20)
    except WouldBlock as wait:
        assert 0.0059 < wait.args[0] < 0.0061


def test_patience_with_those_who_send_without_a_pause_ends() -> None:
    held = Held()
    taken: list[Delivery] = []
    longest = 0.0
    for number in range(3000):
        held.add(number)
        held.now += 0.005
        for delivery in (batch := held.take()):
            longest = max(longest, held.now - 1000.0 - int(delivery.path.stem) * 0.005)
            held.queue.done(delivery)
        taken += batch
    assert 2.0 <= longest <= 2.01
    assert len(taken) >= 3000 - 2.0 / 0.005 - 20


def test_urgent_and_repeated_deliveries_do_not_wait_for_a_pause() -> None:
    held = Held()
    held.add(1)
    wanted = held.add(2, urgent=True)
    assert wanted in held.take()
    held.add(3)
    held.queue.retry(wanted, 1.0)
    held.now += 2.5
    taken = held.take() + held.take()
    held.add(4)
    assert wanted in taken


def test_what_is_hurried_goes_first_and_at_once_and_in_its_order() -> None:
    queue = DeliveryQueue(quiet_s=60, patience_s=60)
    deliveries = [
        Delivery(Path(str(number)), SMALL_BYTES + 1, str(number), "", "P" if number in (2, 4) else "Q")
        for number in range(6)
    ]
    later = Delivery(Path("later"), SMALL_BYTES + 1, "4", "", "P")
    for delivery in (*deliveries, later):
        queue.add(delivery)
    wanted = {one.path: one for one in (deliveries[2], deliveries[4], later)}
    query = Wanted(patient_ids=frozenset({"P"}))
    assert queue.matching(query, Path()) == wanted
    assert queue.hurry(query, Path()) == wanted
    taken = [queue.take(1)[0] for _ in range(2)]
    assert taken == [deliveries[2], deliveries[4]]
    queue.done(deliveries[4])
    assert queue.take(1) == [later]
    assert queue.hurry(query, Path("elsewhere")) == {}
    assert queue.hurry(Wanted(patient_ids=frozenset({"R"})), Path()) == {}
