"""Is what the books say true? The spool, Orthanc and the books are compared, in a thread beside the keeper's loop.

At the start, when a process that receives has died, when Orthanc says that it deleted something, when a limit is
reached, and every few minutes, since nobody tells a gateway on its own what is deleted.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from gateway.database import DatabaseError
from gateway.dicom.part10 import Part10Error, read_meta
from gateway.dicom.structure import StructureError
from gateway.forwarding.transports import HttpTransport, Unreachable
from gateway.log import get_logger
from gateway.quotas.accounts import Amount, Holder
from gateway.quotas.entries import identifier, read_entry, source_of
from gateway.quotas.holdings import Held, Holdings
from gateway.quotas.ledger import Ledger
from gateway.quotas.rules import NANOSECONDS, QUEUE_LENGTH, Rule
from gateway.spool import ORTHANC, Spool, destination_of

PAGE: Final = 1000
COMPARE_INTERVAL_S: Final = 300.0
# When a limit is reached Orthanc is asked at once, but it must not do much else because of that.
LEAST_COMPARE_INTERVAL_S: Final = 2.0
COMPARE_PART: Final = 20
# The same of what DICOMweb servers took: a listing of one folder.
LEAST_LISTING_INTERVAL_S: Final = 0.1
MEASURE_INTERVAL_S: Final = 0.5
RETRY_S: Final = 5.0
# It looks at every row, with the books locked.
PRUNE_INTERVAL_S: Final = 24 * 3600.0

# What is looked for when a limit is reached, beside measurements.
_DELIVERED: Final = "delivered to servers"
_DELETED: Final = "deleted in Orthanc"

Job = Callable[[], None]


class Auditor:
    """The thread and its jobs. Public methods may be called from any thread."""

    def __init__(
        self,
        ledger: Ledger,
        holdings: Holdings,
        spool: Spool,
        transport: HttpTransport | None,
        *,
        has_servers: bool = False,
    ) -> None:
        """`transport`: to Orthanc; None: there is none. `has_servers`: instances go to DICOMweb servers, too."""
        self._ledger = ledger
        self._holdings = holdings
        self._spool = spool
        self._transport = transport
        self._has_servers = has_servers
        self._on_change: Job = lambda: None
        # What needs only the spool never waits for an Orthanc that does not answer.
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._orthanc_jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._looks: dict[str, float] = {}
        self._pending: set[str] = set()
        # Rows of instances that are not committed yet, and of those in `delivered` whose deletion was verified.
        self.claimed: set[str] = set()
        self._verified_gone: set[str] = set()
        self._next_compare = 0.0
        self._next_prune = time.monotonic() + PRUNE_INTERVAL_S
        self._log = get_logger()

    def start(self, on_change: Job) -> None:
        """Start the threads, with a look at everything; `on_change` is called when something may be free again."""
        self._on_change = on_change
        self._jobs.put(self._compare_with_spool)
        for jobs in [self._jobs] if self._transport is None else [self._jobs, self._orthanc_jobs]:
            threading.Thread(target=self._run, args=(jobs,), name="auditor", daemon=True).start()

    def bury(self, holder: Holder) -> None:
        """`holder` is dead: write down what it accepted and did not tell, then end its leases."""
        self._jobs.put(lambda: self._bury(holder))

    def deleted(self, orthanc_ids: list[str]) -> None:
        """Orthanc says that it deleted these instances."""
        self._orthanc_jobs.put(lambda: self._check_deleted(orthanc_ids))

    def look_soon(self, rule: Rule) -> bool:
        """The limit of `rule` is reached: look whether that is so. False if that was done just now."""
        if not rule.measured and rule.window_ns is not None:
            return False
        if rule.measured:
            is_of_spool = rule.title == QUEUE_LENGTH or self._transport is None
            jobs = self._jobs if is_of_spool else self._orthanc_jobs
            return self._soon(rule.key, jobs, lambda: self.measure(rule), MEASURE_INTERVAL_S, 0)
        looks = False
        if self._has_servers:
            looks |= self._soon(_DELIVERED, self._jobs, self._release_delivered, LEAST_LISTING_INTERVAL_S, COMPARE_PART)
        if self._transport is not None:
            looks |= self._soon(
                _DELETED, self._orthanc_jobs, self._compare_with_orthanc, LEAST_COMPARE_INTERVAL_S, COMPARE_PART
            )
        return looks

    def may_leave(self, paths: list[Path]) -> bool:
        """Whether the files may leave the spool: what they hold is written down. Else it is, now or soon."""
        names = {identifier(path.name): path for path in paths}
        states = self._ledger.states(names)
        self._write_down(path for name, path in names.items() if name not in states)
        taken = [name for name, path in names.items() if destination_of(path.name) != ORTHANC]
        if taken:
            self.release(taken)
            self._on_change()
        doubtful = [name for name, held in states.items() if not held and name not in (*taken, *self._verified_gone)]
        if doubtful:
            self._orthanc_jobs.put(lambda: self._check_revived(doubtful))
            return False
        self._verified_gone.difference_update(names)
        return True

    def release(self, names: Iterable[str]) -> int:
        """The files of these names were deleted by somebody, or were never kept."""
        names = list(names)
        self.claimed.difference_update(names)
        return self._holdings.release(names)

    def _run(self, jobs: "queue.SimpleQueue[Job]") -> None:
        is_of_orthanc = jobs is self._orthanc_jobs
        while True:
            due = self._next_compare if is_of_orthanc else self._next_prune
            try:
                job = jobs.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                job = self._compare_with_orthanc if is_of_orthanc else self._prune
            try:
                job()
            except (DatabaseError, OSError) as error:
                self._log.error("the quotas cannot be compared with what is there", reason=str(error))
                threading.Timer(RETRY_S, jobs.put, (job,)).start()
            self._on_change()

    def _soon(self, key: str, jobs: "queue.SimpleQueue[Job]", look: Job, least_interval_s: float, part: int) -> bool:
        """Have `look` done, unless that was within an interval: the least, or `part` times as long as it took."""
        if key in self._pending:
            return True
        if time.monotonic() < self._looks.get(key, 0.0):
            return False

        def job() -> None:
            try:
                started = time.monotonic()
                look()
                now = time.monotonic()
                self._looks[key] = now + max(least_interval_s, part * (now - started))
            finally:
                self._pending.discard(key)

        self._pending.add(key)
        jobs.put(job)
        return True

    def _compare_with_spool(self) -> None:
        """After a start: what is in the spool is held, whatever became of who received it."""
        for folder in (self._spool.ready, self._spool.delivered, self._spool.failed):
            for names in _chunks(self._spool.names(folder), PAGE):
                self._write_down_unknown(folder, names)
                if folder is not self._spool.delivered:
                    self._holdings.revive(map(identifier, names))
        self._release_lost()
        for rule in self._ledger.rules.values():
            if rule.measured:
                self.measure(rule)
        self._prune()

    def _prune(self) -> None:
        self._next_prune = time.monotonic() + PRUNE_INTERVAL_S
        # What came just now may still be in the spool, and would be taken for new.
        self._holdings.prune(time.time_ns() - int(PRUNE_INTERVAL_S * NANOSECONDS))

    def _release_delivered(self) -> None:
        """What a DICOMweb server took is held there, by somebody else, and counts here no more."""
        names = [name for name in self._spool.names(self._spool.delivered) if destination_of(name) != ORTHANC]
        for some in _chunks(names, PAGE):
            self._holdings.release(map(identifier, some))

    def _release_lost(self) -> None:
        """What waited for a DICOMweb server and was taken out of the spool by hand."""
        in_spool = {
            identifier(name)
            for folder in (self._spool.ready, self._spool.failed, self._spool.delivered)
            for name in self._spool.names(folder)
        }
        after = ""
        while held := self._holdings.for_servers(PAGE, after):
            after = held[-1].name
            self._holdings.release({each.name for each in held} - in_spool - self.claimed)

    def _bury(self, holder: Holder) -> None:
        process = "-" + holder.folder.partition("-")[0] + "-"
        for folder in (self._spool.ready, self._spool.delivered, self._spool.failed):
            names = [name for name in self._spool.names(folder) if process in name]
            self._write_down_unknown(folder, names)
        unfinished = [name for name in list(self.claimed) if process in name]
        self.release(name for name in unfinished if not self._is_in_spool(name))
        self._ledger.end_leases(holder)
        self._log.info("the quotas of a process that ended are settled", holder=holder.folder)

    def _write_down_unknown(self, folder: Path, names: list[str]) -> None:
        unknown = {identifier(name): folder / name for name in names}
        for name in self._ledger.states(unknown):
            del unknown[name]
        self._write_down(unknown.values())

    def _write_down(self, paths: Iterable[Path]) -> None:
        entries = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    source = source_of(read_meta(file.fileno())[0])
                if any(not rule.measured for rule in self._ledger.rules_of(source)):
                    entries.append(read_entry(path))
            except (FileNotFoundError, Part10Error, StructureError):
                continue  # it moved on, or is no instance
        if entries:
            self._ledger.settle(None, entries, leased=False)

    def _compare_with_orthanc(self) -> None:
        """Find what is not in Orthanc any more. What cannot be asked now is asked another time."""
        self._next_compare = time.monotonic() + COMPARE_INTERVAL_S
        if all(rule.measured or rule.window_ns is not None for rule in self._ledger.rules.values()):
            return
        started, run = time.monotonic(), time.time_ns()
        try:
            for page in self._pages():
                self._holdings.see(page, run)
            after = ""
            while held := self._holdings.unseen(run, PAGE, after):
                after = held[-1].name
                self._release_missing(held)
        except Unreachable as error:
            self._log.debug("the quotas cannot be compared with Orthanc", reason=str(error))
        duration = time.monotonic() - started
        self._next_compare = time.monotonic() + max(COMPARE_INTERVAL_S, COMPARE_PART * duration)

    def _pages(self) -> Iterator[list[str]]:
        since = 0
        while True:
            page = self._get(f"/instances?since={since}&limit={PAGE}")
            if not isinstance(page, list) or not page:
                return
            yield [str(identifier) for identifier in page]
            since += len(page)

    def _release_missing(self, held: Iterable[Held]) -> None:
        """Release those that are neither in the spool nor in Orthanc. Raises Unreachable."""
        gone = []
        for name, orthanc_id in held:
            # In this order: what is delivered in between is found in Orthanc.
            if name in self.claimed or self._is_in_spool(name):
                continue
            if self._get(f"/instances/{orthanc_id}") is None:
                gone.append(name)
        if gone:
            self._holdings.release(gone)
            self._log.info("deleted in Orthanc, and given back to the quotas", instances=len(gone))

    def _check_deleted(self, orthanc_ids: list[str]) -> None:
        try:
            held = self._holdings.known(orthanc_ids)
            self._release_missing(held)
            for orthanc_id in {each.orthanc_id for each in self._holdings.known(orthanc_ids)}:
                self._holdings.release_overwritten(orthanc_id, lambda n: n in self.claimed or self._is_in_spool(n))
        except (Unreachable, DatabaseError) as error:  # not each of many deletions is tried again: all are compared
            self._log.debug("a deletion cannot be looked at", reason=str(error))
            self._next_compare = min(self._next_compare, time.monotonic() + RETRY_S)

    def _check_revived(self, names: list[str]) -> None:
        """Files in `delivered` whose instance was deleted: has the gateway delivered them again since?"""
        try:
            for name, orthanc_id in self._holdings.gone(names):
                if self._get(f"/instances/{orthanc_id}") is None:
                    self._verified_gone.add(name)
                else:
                    self._holdings.revive([name])
        except Unreachable as error:
            self._log.debug("a deletion cannot be looked at", reason=str(error))

    def _stored_bytes(self) -> int:
        """What Orthanc's files have. Raises Unreachable."""
        if self._transport is None:
            return 0
        return int((self._get("/statistics") or {}).get("TotalDiskSize", 0))

    def measure(self, rule: Rule) -> None:
        """Look up the use of a measured rule. What cannot be asked now stays as it was."""
        before = self._ledger.measured(rule)
        # The spool first: what is delivered in between counts twice for a moment, never not at all.
        if rule.title == QUEUE_LENGTH:
            amount = Amount(instances=len(self._spool.names(self._spool.ready)))
        else:
            waiting = _bytes_in(self._spool.ready) + _bytes_in(self._spool.failed)
            waiting += sum(map(self._spool.changed_bytes, self._spool.names(self._spool.ready)))
            try:
                amount = Amount(bytes=waiting + self._stored_bytes())
            except Unreachable:
                return
        self._ledger.set_measured(rule, amount, before)

    def _get(self, uri: str) -> Any:
        """What Orthanc answers; None if there is no such thing. Raises Unreachable."""
        if self._transport is None:
            raise Unreachable("there is no Orthanc")
        reply = self._transport.get(uri)
        if reply.http_status == 404:
            return None
        if reply.http_status != 200:
            raise Unreachable(f"Orthanc answers HTTP {reply.http_status}")
        try:
            return json.loads(reply.body)
        except ValueError as error:
            raise Unreachable("the answer is not Orthanc's") from error

    def _is_in_spool(self, name: str) -> bool:
        """Whether the file waits for Orthanc or has failed."""
        for folder in (self._spool.ready, self._spool.failed):
            if name.startswith("#"):
                if any(identifier(each) == name for each in self._spool.names(folder)):
                    return True
            elif (folder / name).exists():
                return True
        return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _chunks(names: list[str], size: int) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, size)):
        yield chunk
