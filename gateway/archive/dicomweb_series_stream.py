"""Whole series of a DICOMweb server, one answer of WADO-RS (PS3.18 10.4) each, before their instances are listed.

What the files say of themselves is checked. What is not as it should be is left to those who have a list
(gateway.archive.dicomweb_read_ahead).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.archive.dicomweb_download import Download, data_set, read_start
from gateway.archive.dicomweb_listing import DicomWebInstance
from gateway.archive.dicomweb_query import is_path_segment
from gateway.archive.dicomweb_read_ahead import START_BYTES
from gateway.archive.fetching import Fetching
from gateway.archive.interface import Fetched, SeriesCount
from gateway.dicom.part10 import (
    MEDIA_STORAGE_SOP_CLASS_UID,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Part10Error,
    find_data_set,
)
from gateway.dicom.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from gateway.dicomweb.client import DicomWebClient
from gateway.dicomweb.errors import BadAnswer, DicomWebError

# Where an element of group 0020 is found, in nearly all data sets, and in nearly all others.
SEARCHED_BYTES: Final = (4 * 1024, 128 * 1024)

_SERIES_INSTANCE_UID: Final = (0x0020, 0x000E)


class SeriesStream(Fetching):
    """A ReadAhead (gateway.archive.interface) of what comes, for WholeSeries."""

    def __init__(self, client: DicomWebClient, series: Sequence[SeriesCount]) -> None:
        super().__init__()
        samples = [one.sample for one in series]
        self._answers = deque(_Answer(client, one) for one in samples if isinstance(one, DicomWebInstance))

    def wait(self, seconds: float) -> bool:
        """See ReadAhead."""
        with self._in_use:
            if not self._answers or self._closed.is_set():
                return True
            download = self._begin(self._answers[0])
        return download.wait(seconds)

    def close(self) -> None:
        """See ReadAhead."""
        self._closed.set()
        for each in list(self._answers):
            each.close()

    def _begin(self, answer: _Answer) -> Download:
        download = answer.begin()
        if self._closed.is_set():
            answer.close()
        return download

    def _fetch_next(self) -> Fetched | None:
        while self._answers:
            answer = self._answers[0]
            download = self._begin(answer)
            try:
                fetched = answer.next()
            except DicomWebError:
                return None
            if fetched is None:
                self._answers.popleft().close()
                continue
            if download.is_received and len(self._answers) > 1:
                self._begin(self._answers[1])  # the server may get it ready
            return fetched
        return None


class _Answer:
    """One series on its way."""

    def __init__(self, client: DicomWebClient, sample: DicomWebInstance) -> None:
        self._client = client
        self._sample = sample
        self._mark = _mark(sample)
        self._download: Download | None = None

    def begin(self) -> Download:
        if self._download is None:
            self._download = Download(self._client, self._sample.series, None)
        return self._download

    def next(self) -> Fetched | None:
        """The next file that is of this series, and like the sample. Raises DicomWebError."""
        download = self.begin()
        while download.next_file():
            start = read_start(download, START_BYTES)
            try:
                meta, begin = find_data_set(start.head)
            except Part10Error as error:
                raise BadAnswer(str(error)) from error
            instance = self._instance(meta)
            if instance is None or not self._is_of_series(start.head[begin:]):
                continue
            return Fetched(instance, data_set(download, instance.transfer_syntax_uid, start, begin))
        return None

    def _is_of_series(self, begin: memoryview) -> bool:
        return any(self._mark in bytes(begin[:size]) for size in SEARCHED_BYTES)

    def close(self) -> None:
        if self._download is not None:
            self._download.close()

    def _instance(self, meta: dict[int, str]) -> DicomWebInstance | None:
        sample, uid = self._sample, meta.get(MEDIA_STORAGE_SOP_INSTANCE_UID, "")
        kind = meta.get(MEDIA_STORAGE_SOP_CLASS_UID), meta.get(TRANSFER_SYNTAX_UID)
        if kind != (sample.sop_class_uid, sample.transfer_syntax_uid) or not is_path_segment(uid):
            return None
        return replace(sample, handle=f"{sample.series}/instances/{uid}", sop_instance_uid=uid)


def _mark(sample: DicomWebInstance) -> bytes:
    """The Series Instance UID as an element (PS3.5 7.1), which each file of the series has.

    Of encodings in which it cannot be found, deflated or big endian, there is a list.
    """
    value = sample.series_instance_uid.encode("ascii")
    length = len(value) + len(value) % 2
    if sample.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return struct.pack("<HHL", *_SERIES_INSTANCE_UID, length) + value
    return struct.pack("<HH2sH", *_SERIES_INSTANCE_UID, b"UI", length) + value
