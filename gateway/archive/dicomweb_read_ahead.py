"""Instances of a DICOMweb server, a whole series in one answer where most of it is wanted, otherwise one by one.

What an answer lacks, or what it breaks off before, is asked for alone, so that each failure is that of an instance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.archive.dicomweb_download import REFUSED_TRANSFER_SYNTAX, Download, data_set, read_start
from gateway.archive.dicomweb_errors import meaning
from gateway.archive.dicomweb_listing import DicomWebInstance
from gateway.archive.fetching import Fetching
from gateway.archive.interface import (
    AccessDenied,
    ArchiveUnavailable,
    CannotTranscode,
    Fetched,
    InstanceReference,
    Wanted,
)
from gateway.dicom.part10 import (
    MAXIMUM_META_BYTES,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Part10Error,
    find_data_set,
)
from gateway.dicomweb.client import DicomWebClient
from gateway.dicomweb.errors import BadAnswer, DicomWebError, HttpStatusError, ServerUnreachable

# Files up to this size are read whole before they are handed out, so that one that breaks off is asked for again.
WHOLE_BYTES: Final = 2 * 1024 * 1024
# Of a series from which less is wanted the instances are asked for one by one.
SERIES_SHARE: Final = 0.5
# A series whose answer breaks off is asked for again if so much is missing, as long as each answer brings something.
INSTANCES_ONE_BY_ONE: Final = 20
# When so often in a row the server did not answer at all, nothing is expected any more.
FAILURES_IN_A_ROW: Final = 2

START_BYTES: Final = max(WHOLE_BYTES, 2 * MAXIMUM_META_BYTES)


@dataclass(slots=True)
class _Order:
    """One request: the instances that are to come with its answer, by SOP Instance UID."""

    resource: str
    transfer_syntax_uid: str | None
    missing: dict[str, InstanceReference]
    is_series: bool
    download: Download | None = None
    came: int = field(default=0)


class DicomWebReadAhead(Fetching):
    """A ReadAhead (gateway.archive.interface), in the order in which the server sends."""

    def __init__(self, client: DicomWebClient, wanted: Iterable[Wanted]) -> None:
        super().__init__()
        self._client = client
        self._orders: deque[_Order] = deque(_orders(wanted))
        self._failed: deque[Fetched] = deque()
        # Why nothing more is asked for.
        self._given_up: ArchiveUnavailable | None = None
        self._failures = 0

    def wait(self, seconds: float) -> bool:
        """See ReadAhead."""
        with self._in_use:
            if self._failed or not self._orders or self._closed.is_set() or self._given_up is not None:
                return True
            download = self._begin(self._orders[0])
        return download.wait(seconds)

    def close(self) -> None:
        """See ReadAhead."""
        self._closed.set()
        for order in list(self._orders):
            if order.download is not None:
                order.download.close()

    def _begin(self, order: _Order) -> Download:
        if order.download is None:
            order.download = Download(self._client, order.resource, order.transfer_syntax_uid)
            if self._closed.is_set():
                order.download.close()
        return order.download

    def _fetch_next(self) -> Fetched | None:
        while not self._failed and self._orders:
            order = self._orders[0]
            if self._given_up is not None:
                self._fail(order, self._given_up)
                continue
            try:
                fetched = self._next_of(order)
            except DicomWebError as error:
                self._leave(order, error)
                continue
            if fetched is None:
                self._leave(order, BadAnswer(f"{order.resource} was answered without it"))
                continue
            self._failures = 0
            return fetched
        return self._failed.popleft() if self._failed else None

    def _next_of(self, order: _Order) -> Fetched | None:
        """The next instance of an answer that is wanted; None when nothing more comes, or is missing."""
        download = self._begin(order)
        while order.missing and download.next_file():
            self._begin_next(download)
            start = read_start(download, START_BYTES)
            found = _read_meta(order, start.head)
            if found is None:
                continue
            instance, transfer_syntax_uid, begin = found
            del order.missing[instance.sop_instance_uid]
            order.came += 1
            if order.transfer_syntax_uid not in (None, transfer_syntax_uid):
                text = f"{instance.handle} comes in transfer syntax {transfer_syntax_uid}"
                return Fetched(instance, None, CannotTranscode(text))
            return Fetched(instance, data_set(download, transfer_syntax_uid, start, begin))
        return None

    def _begin_next(self, download: Download) -> None:
        """While the end of one answer is taken in, the server may get the next one ready."""
        if download.is_received and len(self._orders) > 1:
            self._begin(self._orders[1])

    def _leave(self, order: _Order, error: DicomWebError) -> None:
        """An answer is over. What it lacks is asked for otherwise, or has failed."""
        if order.download is not None:
            order.download.close()
        if not order.missing:
            self._orders.popleft()
            return
        reason = meaning(error, self._client.title)
        if isinstance(reason, AccessDenied):
            self._given_up = reason
        elif isinstance(error, ServerUnreachable) and not order.came:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                self._given_up = ArchiveUnavailable(str(reason))
        if self._given_up is not None or not order.is_series:
            self._fail(order, self._failure(order, error))
            return
        self._orders.popleft()
        if isinstance(error, ServerUnreachable) and order.came and len(order.missing) > INSTANCES_ONE_BY_ONE:
            again = _Order(order.resource, order.transfer_syntax_uid, order.missing, True)
            self._orders.appendleft(again)
            return
        alone = [_single(instance, order.transfer_syntax_uid) for instance in order.missing.values()]
        self._orders.extendleft(reversed(alone))

    def _failure(self, order: _Order, error: DicomWebError) -> ArchiveUnavailable | CannotTranscode:
        is_refused = isinstance(error, HttpStatusError) and error.status in REFUSED_TRANSFER_SYNTAX
        if order.transfer_syntax_uid is not None and is_refused:
            return CannotTranscode(f"to {order.transfer_syntax_uid}: {error}")
        return ArchiveUnavailable(f"{self._client.title}: {error}")

    def _fail(self, order: _Order, error: ArchiveUnavailable | CannotTranscode) -> None:
        self._orders.popleft()
        self._failed.extend(Fetched(instance, None, error) for instance in order.missing.values())


def open_start(client: DicomWebClient, instance: InstanceReference) -> str:
    """The transfer syntax of an instance, by the begin of its file. Raises DicomWebError."""
    order = _single(instance, None)
    download = Download(client, order.resource, None)
    try:
        if not download.next_file():
            raise BadAnswer("no file")
        found = _read_meta(order, read_start(download, 2 * MAXIMUM_META_BYTES).head)
    finally:
        download.close()
    return found[1] if found is not None else ""


def _orders(wanted: Iterable[Wanted]) -> Iterator[_Order]:
    by_series: dict[tuple[str, str | None], list[InstanceReference]] = {}
    for instance, transfer_syntax_uid in wanted:
        if transfer_syntax_uid == instance.transfer_syntax_uid:
            transfer_syntax_uid = None
        series = instance.series if isinstance(instance, DicomWebInstance) else instance.handle
        by_series.setdefault((series, transfer_syntax_uid), []).append(instance)
    for (series, transfer_syntax_uid), instances in by_series.items():
        first = instances[0]
        size = first.series_size if isinstance(first, DicomWebInstance) else 0
        if size > 1 and len(instances) >= size * SERIES_SHARE:
            missing = {instance.sop_instance_uid: instance for instance in instances}
            yield _Order(series, transfer_syntax_uid, missing, True)
        else:
            yield from (_single(instance, transfer_syntax_uid) for instance in instances)


def _single(instance: InstanceReference, transfer_syntax_uid: str | None) -> _Order:
    return _Order(instance.handle, transfer_syntax_uid, {instance.sop_instance_uid: instance}, False)


def _read_meta(order: _Order, start: memoryview) -> tuple[InstanceReference, str, int] | None:
    """Which of the wanted instances a file is, its transfer syntax, and where its data set begins; None: none of them.

    Raises BadAnswer.
    """
    try:
        meta, begin = find_data_set(start)
    except Part10Error as error:
        raise BadAnswer(f"{order.resource}: {error}") from error
    transfer_syntax_uid = meta.get(TRANSFER_SYNTAX_UID, "")
    instance = order.missing.get(meta.get(MEDIA_STORAGE_SOP_INSTANCE_UID, ""))
    if instance is None or not transfer_syntax_uid:
        return None
    return instance, transfer_syntax_uid, begin
