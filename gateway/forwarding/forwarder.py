"""The forwarder's work: take a batch, post it, read the answer, move the file. See docs/architecture.md."""

import io
import os
import random
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.config import ForwardingSection
from gateway.deliveries import Result
from gateway.forwarding.comparison import CopyError, is_same_instance
from gateway.forwarding.queue import SMALL_BYTES, DeliveryQueue
from gateway.forwarding.transports import HttpTransport, Transport, Unreachable
from gateway.forwarding.verdicts import Judgement, Verdict, judge, judge_batch
from gateway.log import get_logger
from gateway.part10 import Part10Error, orthanc_id, read_meta
from gateway.spool import Delivery, Spool, move
from gateway.structure import StructureError, check_structure

INSTANCES: Final = "/instances"
DIFFERS: Final = "differs from the stored instance"
# When nothing came for so long the modalities make a pause: what they wait for is not slowed down by delivering.
QUIET_S: Final = 0.01

# How many files leave the spool together, and when those that may not yet are asked for again.
LEAVING_COUNT: Final = 100
LEAVING_RETRY_S: Final = 1.0

OnOutcome = Callable[[Path, Result, str], None]
MayLeave = Callable[[list[Path]], bool]


@dataclass
class Sender:
    """What one sender thread posts with: `small` may be the plugin, `http` streams and reads."""

    small: Transport
    http: HttpTransport


class Backoff:
    """Exponential delays with jitter between two bounds, in seconds."""

    def __init__(self, minimum_s: float, maximum_s: float) -> None:
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s

    def delay_s(self, attempt: int) -> float:
        """Delay before attempt number `attempt` + 1; attempts count from 1."""
        exponential = self._minimum_s * 2.0 ** min(attempt - 1, 30)
        return float(min(self._maximum_s, exponential) * random.uniform(0.75, 1.25))


class Forwarder:
    """Drains the spool with several sender threads."""

    def __init__(
        self, spool: Spool, section: ForwardingSection, on_outcome: OnOutcome, may_leave: MayLeave | None = None
    ) -> None:
        """`may_leave`: with quotas, whether these files may leave the spool; if not, it is asked again."""
        self._spool = spool
        self._section = section
        self._on_outcome = on_outcome
        self.queue = DeliveryQueue(quiet_s=QUIET_S, patience_s=section.hold_while_receiving)
        self._backoff = Backoff(section.minimum_retry_delay, section.maximum_retry_delay)
        self._attempts: dict[Path, int] = {}
        self._unwanted: set[Path] = set()
        self._holds = 0
        self._hold_lock = threading.Lock()
        self._stopping = threading.Event()
        self._kept = KeptDeliveries(spool, section.keep_delivered, section.keep_delivered_bytes, may_leave)
        self._log = get_logger()

    def run(self, sender: Sender) -> None:
        """One sender thread's loop; returns after `stop`."""
        while batch := self.queue.take(self._section.batch_size):
            rest = deque(batch)
            try:
                self._deliver(sender, rest)
            except Unreachable as error:
                if self._hold(str(error)):
                    # The way was free until this one: if it is to blame, it must not hold the others again and again.
                    self._back_off(rest.popleft(), str(error))
                self._give_back(rest, str(error), self._section.minimum_retry_delay)
            except OSError as error:
                self._log.error("the spool cannot be read or written", reason=str(error))
                self._give_back(rest, str(error), self._section.maximum_retry_delay)

    def do_not_retry(self, path: Path) -> None:
        """Nobody waits for `path` any more: if the attempt that runs right now fails, it was the last."""
        self._unwanted.add(path)
        if self.queue.withdraw(path):  # that attempt failed a moment ago
            self._attempts.pop(path, None)
            self._on_outcome(path, "withdrawn", "Orthanc did not take it in time")
        if path not in self.queue:
            self._unwanted.discard(path)

    def stop(self) -> None:
        """Let the sender threads end after what they have in hand, and `check_delivered` before the next one."""
        self._stopping.set()
        self.queue.stop()
        self._kept.stop()

    def rescan(self) -> None:
        """Queue what is in `ready` and not known."""
        for name in self._spool.names(self._spool.ready):
            path = self._spool.ready / name
            if path not in self.queue:
                delivery = self._identify(path)
                if delivery is not None:
                    self.queue.add(delivery)

    def check_delivered(self, transport: HttpTransport) -> None:
        """At start: is what was delivered shortly before the last end still in Orthanc? If not, deliver it again.

        One that Orthanc says nothing about is asked for again after the others. Returns when all are settled, or
        after `stop`.
        """
        names = deque(self._spool.names(self._spool.delivered))
        attempt = 0
        while names and not self._stopping.is_set():
            name = names.popleft()
            if self._is_settled(transport, name):
                attempt = 0
                continue
            names.append(name)
            attempt += 1
            self._stopping.wait(self._backoff.delay_s(attempt))

    def _is_settled(self, transport: HttpTransport, name: str) -> bool:
        """Ask for one file of `delivered`; False when the answer says neither yes nor no."""
        path = self._spool.delivered / name
        delivery = self._identify(path)
        if delivery is None:
            return True
        try:
            status = transport.get(f"{INSTANCES}/{delivery.orthanc_id}").http_status
        except Unreachable as error:
            self._log.debug("cannot check what was delivered", name=name, reason=str(error))
            return False
        if status == 200:
            self._kept.add(path, delivery.size)
        elif status == 404:
            self._log.warning("Orthanc lost a delivered instance; it is delivered again", name=name)
            try:
                target = move(path, self._spool.ready)
            except FileNotFoundError:
                return True  # its time was over just now
            self.queue.add(replace(delivery, path=target))
        return status in (200, 404)

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

    def _deliver(self, sender: Sender, batch: deque[Delivery]) -> None:
        """Deliver `batch` and take out of it what came to an end or into the queue again."""
        judgements: dict[str, Judgement] = {}
        if len(batch) > 1:
            body = _zip(batch)
            reply = sender.small.post(INSTANCES, body, len(body))
            judgements = judge_batch(reply)
            if judgements:
                self._way_is_free()
        while batch:
            delivery = batch[0]
            judgement = judgements.get(delivery.orthanc_id)
            if judgement is None:
                judgement = self._post_alone(sender, delivery)
            if judgement is not None:
                self._conclude(sender, delivery, judgement)
            batch.popleft()

    def _post_alone(self, sender: Sender, delivery: Delivery) -> Judgement | None:
        try:
            with delivery.path.open("rb") as file:
                if delivery.size <= SMALL_BYTES:
                    reply = sender.small.post(INSTANCES, file.read(), delivery.size)
                elif delivery.size <= self._section.plugin_maximum_bytes:
                    reply = sender.small.post(INSTANCES, file, delivery.size)
                else:
                    reply = sender.http.post(INSTANCES, file, delivery.size)
        except FileNotFoundError:
            self._log.info("an instance was taken out of the spool by hand", name=delivery.path.name)
            self._finish(delivery, "withdrawn", "the file is gone")
            return None
        return judge(reply)

    def _conclude(self, sender: Sender, delivery: Delivery, judgement: Judgement) -> None:
        verdict = judgement.verdict
        if verdict is Verdict.HOLD:
            raise Unreachable(judgement.reason)
        self._way_is_free()
        if verdict is Verdict.RETRY:
            self._retry(delivery, judgement.reason)
        elif verdict is Verdict.REFUSED:
            self._refuse(delivery, judgement.reason)
        elif verdict is Verdict.ALREADY_STORED:
            self._compare(sender, delivery, judgement)
        else:
            self._accept(delivery, judgement.reason)

    def _compare(self, sender: Sender, delivery: Delivery, judgement: Judgement) -> None:
        try:
            is_same = is_same_instance(sender.http, judgement.orthanc_id or delivery.orthanc_id, delivery.path)
        except CopyError as error:
            self._retry(delivery, str(error))
            return
        if is_same:
            self._accept(delivery, judgement.reason)
        else:
            self._refuse(delivery, DIFFERS)

    def _accept(self, delivery: Delivery, reason: str) -> None:
        self._kept.take_over(delivery)
        self._finish(delivery, "delivered", reason)

    def _finish(self, delivery: Delivery, result: Result, reason: str) -> None:
        self._attempts.pop(delivery.path, None)
        self._unwanted.discard(delivery.path)
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

    def _hold(self, reason: str) -> bool:
        """Trouble on the way: the queue waits, longer each time. Returns whether the way was free until now."""
        with self._hold_lock:
            if self.queue.is_held():
                return False  # another sender met the same trouble just before
            self._holds += 1
            first = self._holds == 1
            self.queue.hold(self._backoff.delay_s(self._holds))
        if first:
            self._log.error("Orthanc takes nothing; the queue waits", reason=reason, waiting=len(self.queue))
        return first

    def _way_is_free(self) -> None:
        if not self._holds:
            return
        with self._hold_lock:
            was_held = self.queue.release()
            self._holds = 0
        if was_held:
            self._log.warning("Orthanc takes instances again", waiting=len(self.queue))


class KeptDeliveries:
    """The folder `delivered`: each file stays for a time, all together under a number of bytes."""

    def __init__(self, spool: Spool, keep_s: float, keep_bytes: int, may_leave: MayLeave | None = None) -> None:
        self._may_leave = may_leave
        self._folder = spool.delivered
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._changed = threading.Condition()
        self._files: deque[tuple[float, Path, int]] = deque()
        self._bytes = 0
        self._stopped = False
        threading.Thread(target=self._run, name="kept-deliveries", daemon=True).start()

    def take_over(self, delivery: Delivery) -> None:
        """Move a delivered file here, or delete it when nothing is to be kept."""
        if self._may_leave is None and (not self._keep_s or delivery.size > self._keep_bytes):
            delivery.path.unlink(missing_ok=True)
            return
        target = self._folder / delivery.path.name
        delivery.path.rename(target)
        self.add(target, delivery.size)

    def add(self, path: Path, size: int) -> None:
        """A file came into the folder."""
        with self._changed:
            self._files.append((time.monotonic() + self._keep_s, path, size))
            self._bytes += size
            if len(self._files) == 1 or self._bytes > self._keep_bytes:
                self._changed.notify()

    def stop(self) -> None:
        """Leave the rest for the next start."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and not self._is_due():
                    self._changed.wait(max(0.0, self._files[0][0] - time.monotonic()) if self._files else None)
                if self._stopped:
                    return
                leaving: list[tuple[Path, int]] = []
                while self._is_due() and len(leaving) < LEAVING_COUNT:
                    _due, path, size = self._files.popleft()
                    self._bytes -= size
                    leaving.append((path, size))
            if self._may_leave is not None and not self._may_leave([path for path, _size in leaving]):
                self._keep_on(leaving)
                continue
            for path, _size in leaving:
                path.unlink(missing_ok=True)

    def _keep_on(self, leaving: list[tuple[Path, int]]) -> None:
        with self._changed:
            self._files.extendleft((time.monotonic(), path, size) for path, size in reversed(leaving))
            self._bytes += sum(size for _path, size in leaving)
            self._changed.wait_for(lambda: self._stopped, LEAVING_RETRY_S)

    def _is_due(self) -> bool:
        return bool(self._files) and (self._bytes > self._keep_bytes or self._files[0][0] <= time.monotonic())


def read_delivery(path: Path) -> Delivery:
    """What a worker would have told of the file. Raises Part10Error, StructureError, OSError."""
    with path.open("rb") as file:
        meta, offset = read_meta(file.fileno())
        size = os.fstat(file.fileno()).st_size
        header = check_structure(file.fileno(), offset, size - offset, meta.transfer_syntax_uid)
    identifier = orthanc_id(
        header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
    )
    return Delivery(
        path,
        size,
        header.sop_instance_uid,
        identifier,
        patient_id=header.patient_id,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        accession_number=header.accession_number,
    )


def _zip(batch: Iterable[Delivery]) -> bytes:
    """The files of a batch in one stored ZIP. A file that is gone is left out: alone, it will be noticed."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_STORED) as archive:
        for number, delivery in enumerate(batch):
            try:
                content = delivery.path.read_bytes()
            except FileNotFoundError:
                continue
            archive.writestr(f"{number}.dcm", content)
    return body.getvalue()


def _age_s(path: Path) -> float:
    """Seconds since the instance arrived, by its name."""
    arrival = path.name.split("-", 1)[0]
    return time.time() - int(arrival) / 1e9 if arrival.isdigit() else 0.0
