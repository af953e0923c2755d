"""What delivering to any destination has in common: a queue, batches out of it, and what becomes of each instance.

Each destination has its own: one that is down delays no other.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.deliveries import Result, late_reason
from gateway.dicom.part10 import Part10Error
from gateway.dicom.structure import StructureError
from gateway.forwarding.identify import read_delivery
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.queue import Batching, DeliveryQueue
from gateway.forwarding.received import NoInstance, ReceivedInstances, Undecided
from gateway.forwarding.transports import Unreachable
from gateway.forwarding.verdicts import Judgement, Verdict
from gateway.log import get_logger
from gateway.options.gateway import ForwardingSection
from gateway.spool import Delivery, Spool, move

DIFFERS: Final = "differs from the stored instance"
DISCARDED: Final = "discarded by the script"
# When nothing came for so long the modalities make a pause: what they wait for is not slowed down by delivering.
QUIET_S: Final = 0.01

OnOutcome = Callable[[Path, Result, str], None]
Deliver = Callable[[deque[Delivery]], None]
"""Delivers a batch and takes out of it what came to an end or into the queue again. Raises Unreachable, OSError."""


class Backoff:
    """Exponential delays with jitter between two bounds, in seconds."""

    def __init__(self, minimum_s: float, maximum_s: float) -> None:
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s

    def delay_s(self, attempt: int) -> float:
        """Delay before attempt number `attempt` + 1; attempts count from 1."""
        exponential = self._minimum_s * 2.0 ** min(attempt - 1, 30)
        return float(min(self._maximum_s, exponential) * random.uniform(0.75, 1.25))


class Destination:
    """One of them. Who knows how to deliver there gives each sender thread something to `drain` with."""

    def __init__(
        self,
        name: str,
        spool: Spool,
        section: ForwardingSection,
        on_outcome: OnOutcome,
        kept: KeptDeliveries,
        received: ReceivedInstances,
        batching: Batching | None = None,
    ) -> None:
        """`name`: for the log."""
        self.name = name
        self._spool = spool
        self._section = section
        self._on_outcome = on_outcome
        self.queue = DeliveryQueue(quiet_s=QUIET_S, patience_s=section.hold_while_receiving, batching=batching)
        self._backoff = Backoff(section.minimum_retry_delay, section.maximum_retry_delay)
        self._attempts: dict[Path, int] = {}
        self._unwanted: set[Path] = set()
        self._holds = 0
        self._hold_lock = threading.Lock()
        self._stopping = threading.Event()
        self._kept = kept
        self._received = received
        self._log = get_logger()

    def drain(self, deliver: Deliver) -> None:
        """One sender thread's loop; returns after `stop`."""
        while batch := self.queue.take(self._section.batch_size):
            rest = deque(batch)
            try:
                self._decide(rest)
                if rest:
                    deliver(rest)
            except Unreachable as error:
                if self._hold(error):
                    # The way was free until this one: if it is to blame, it must not hold the others again and again.
                    self._back_off(rest.popleft(), str(error))
                self._give_back(rest, str(error), self._section.minimum_retry_delay)
            except OSError as error:
                self._log.error("the spool cannot be read or written", reason=str(error))
                self._give_back(rest, str(error), self._section.maximum_retry_delay)

    def sent(self, delivery: Delivery) -> Delivery:
        """What travels instead of a delivery of the batch: itself, or what a script has made of it."""
        return self._received.sent(delivery)

    def do_not_retry(self, path: Path) -> None:
        """Nobody waits for `path` any more: if the attempt that runs right now fails, it was the last."""
        self._unwanted.add(path)
        if self.queue.withdraw(path):  # that attempt failed a moment ago
            self._attempts.pop(path, None)
            self._received.ended(path, is_delivered=False)
            self._on_outcome(path, "withdrawn", late_reason(path))
        if path not in self.queue:
            self._unwanted.discard(path)

    def stop(self) -> None:
        """Let the sender threads end after what they have in hand, and `check` before the next one."""
        self._stopping.set()
        self.queue.stop()

    def notice(self, path: Path) -> None:
        """Queue a file of `ready`, unless it is known."""
        if path not in self.queue:
            delivery = self._identify(path)
            if delivery is not None:
                self.queue.add(delivery)

    def check(self, names: list[str], is_there: Callable[[Delivery], bool | None]) -> None:
        """At start: is what was delivered shortly before the last end still there? If not, deliver it again.

        `names` of files in `delivered`. One that `is_there` says nothing about (None, or Unreachable) is asked for
        again after the others. Returns when all are settled, or after `stop`.
        """
        unsettled = deque(names)
        attempt = 0
        while unsettled and not self._stopping.is_set():
            name = unsettled.popleft()
            if self._is_settled(name, is_there):
                attempt = 0
                continue
            unsettled.append(name)
            attempt += 1
            self._stopping.wait(self._backoff.delay_s(attempt))

    def _is_settled(self, name: str, is_there: Callable[[Delivery], bool | None]) -> bool:
        path = self._spool.delivered / name
        delivery = self._identify(path)
        if delivery is None:
            return True
        try:
            sent = self._received.recall(delivery)
        except (NoInstance, OSError) as error:  # it was delivered: only that cannot be looked up any more
            self._log.error("cannot check what was delivered", name=name, reason=str(error))
            self._kept.add(path, delivery.size)
            return True
        stored_as = self._spool.stored_as(name)
        if sent is not None and stored_as:
            sent = replace(sent, orthanc_id=stored_as)
        try:
            answer = is_there(sent) if sent is not None and stored_as != "" else True
        except Unreachable as error:
            self._log.debug("cannot check what was delivered", name=name, reason=str(error))
            return False
        if answer:
            self._kept.add(path, delivery.size)
        elif answer is False:
            self._log.warning(f"{self.name} lost a delivered instance; it is delivered again", name=name)
            try:
                target = move(path, self._spool.ready)
            except FileNotFoundError:
                return True  # its time was over just now
            self.queue.add(replace(delivery, path=target))
        return answer is not None

    def _identify(self, path: Path) -> Delivery | None:
        """Read from the file what a worker would have told; a file that is no instance goes to `failed`."""
        try:
            try:
                return read_delivery(path)
            except (Part10Error, StructureError) as error:
                self._fail(path, f"no instance that can be delivered: {error}", 0)
        except FileNotFoundError:
            pass  # delivered in the meantime
        except OSError as error:
            self._log.error("the spool cannot be read or written", name=path.name, reason=str(error))
        return None

    def conclude(self, delivery: Delivery, judgement: Judgement) -> None:
        """Do what a verdict says. Raises Unreachable."""
        if judgement.verdict is Verdict.HOLD:
            raise Unreachable(judgement.reason)
        self.way_is_free()
        self._settle(delivery, judgement)

    def _settle(self, delivery: Delivery, judgement: Judgement) -> None:
        if judgement.verdict is Verdict.RETRY:
            self._retry(delivery, judgement.reason)
        elif judgement.verdict is Verdict.REFUSED:
            self._refuse(delivery, judgement.reason)
        else:
            self._kept.take_over(delivery, self._stored_as(delivery, judgement))
            self._finish(delivery, "delivered", judgement.reason)

    def _stored_as(self, delivery: Delivery, judgement: Judgement) -> str | None:
        """What Orthanc calls it, if it is not what we would ask for at the next start."""
        if not judgement.is_kept:
            return ""
        name = judgement.orthanc_id
        return name if name and name != self.sent(delivery).orthanc_id else None

    def is_gone(self, delivery: Delivery) -> None:
        """Its file is not there any more."""
        self._log.info("an instance was taken out of the spool by hand", name=delivery.path.name)
        self._finish(delivery, "withdrawn", "the file is gone")

    def way_is_free(self) -> None:
        """Something was answered that speaks of instances."""
        if not self._holds:
            return
        with self._hold_lock:
            was_held = self.queue.release()
            self._holds = 0
        if was_held:
            self._log.warning(f"{self.name} takes instances again", waiting=len(self.queue))

    def _decide(self, batch: deque[Delivery]) -> None:
        """Have the script say what is to be sent; take out of the batch what is not. Raises Unreachable, OSError."""
        for _ in range(len(batch)):
            if self._is_to_be_sent(batch[0]):
                batch.rotate(-1)
            else:
                batch.popleft()

    def _is_to_be_sent(self, delivery: Delivery) -> bool:
        try:
            if self._received.decide(delivery) is not None:
                return True
            self._settle(delivery, Judgement(Verdict.DELIVERED, DISCARDED))
        except FileNotFoundError:
            if delivery.path.exists():
                raise
            self.is_gone(delivery)
        except Undecided as error:
            self._settle(delivery, Judgement(Verdict.RETRY, str(error)))
        except NoInstance as error:
            self._settle(delivery, Judgement(Verdict.REFUSED, str(error)))
        return False

    def _finish(self, delivery: Delivery, result: Result, reason: str) -> None:
        self._attempts.pop(delivery.path, None)
        self._unwanted.discard(delivery.path)
        self._received.ended(delivery.path, is_delivered=result == "delivered")
        self.queue.done(delivery)
        self._on_outcome(delivery.path, result, reason)

    def _refuse(self, delivery: Delivery, reason: str) -> None:
        if delivery.path.parent == self._spool.ready:
            self._fail(delivery.path, reason, self._attempts.get(delivery.path, 0) + 1)
        self._finish(delivery, "refused", reason)

    def _fail(self, path: Path, reason: str, attempts: int) -> None:
        self._log.error("an instance cannot be delivered; it is kept in failed", name=path.name, reason=reason)
        self._spool.fail(path, {"reason": reason, "attempts": attempts, "failed_at": time.strftime("%FT%T%z")})

    def _give_back(self, batch: deque[Delivery], reason: str, delay_s: float) -> None:
        """Trouble that is not known to be of one instance: each of the batch comes again, alone, after others."""
        for delivery in batch:
            self._again(delivery, reason, delay_s)

    def _retry(self, delivery: Delivery, reason: str) -> None:
        if delivery.path not in self._attempts:
            self._log.warning("an instance is not taken; it is tried again", name=delivery.path.name, reason=reason)
        self._back_off(delivery, reason)

    def _back_off(self, delivery: Delivery, reason: str) -> None:
        attempt = self._attempts[delivery.path] = self._attempts.get(delivery.path, 0) + 1
        self._again(delivery, reason, self._backoff.delay_s(attempt))

    def _again(self, delivery: Delivery, reason: str, delay_s: float) -> None:
        limit = self._section.give_up_after
        if delivery.path in self._unwanted:
            self._finish(delivery, "withdrawn", reason)
            return
        if limit is not None and _age_s(delivery.path) > limit:
            try:
                self._refuse(delivery, f"given up after {limit:g} s: {reason}")
                return
            except OSError as error:
                self._log.error("the spool cannot be read or written", name=delivery.path.name, reason=str(error))
        self.queue.retry(delivery, delay_s)

    def _hold(self, error: Unreachable) -> bool:
        """Trouble on the way: the queue waits, longer each time. Returns whether the way was free until now."""
        with self._hold_lock:
            if self.queue.is_held():
                return False  # another sender met the same trouble just before
            self._holds += 1
            first = self._holds == 1
            self.queue.hold(max(self._backoff.delay_s(self._holds), error.wait_s))
        if first:
            self._log.error(f"{self.name} takes nothing; the queue waits", reason=str(error), waiting=len(self.queue))
        return first


def _age_s(path: Path) -> float:
    """Seconds since the instance arrived, by its name."""
    arrival = path.name.split("-", 1)[0]
    return time.time() - int(arrival) / 1e9 if arrival.isdigit() else 0.0
