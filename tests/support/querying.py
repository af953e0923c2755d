"""Peers that query: DCMTK's findscu, GDCM's gdcmscu, and one that counts and chooses every byte."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, encode
from tests.support.rawdicom import COMMAND, DATA_SET, LAST, Context, RawPeer, Response, command_set, p_data, pdv

PATIENT_ROOT: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2.1"
PENDING: Final = 0xFF00
TIMEOUT_S: Final = 60
C_FIND_RQ, C_CANCEL_RQ = 0x0020, 0x0FFF
_FINAL = re.compile(r"DIMSE Status\s+: 0x([0-9a-f]{4})")


@dataclass
class Found:
    """The answers to a query, and the status of the last response."""

    answers: list[Dataset]
    status: int
    comment: str = ""
    offending_element: int | None = None


def findscu(port: int, *keys: str, model: str = "-S", called: str = "ORTHANC", calling: str = "FINDSCU") -> Found:
    """DCMTK's findscu with keys such as "PatientName=A*"; its answers as it wrote them down."""
    with TemporaryDirectory() as folder:
        ended = subprocess.run(
            [
                *("/usr/bin/findscu", "-d", "-X", "-od", folder, model, "-aet", calling, "-aec", called),
                *(part for key in keys for part in ("-k", key)),
                *("127.0.0.1", str(port)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        printed = (ended.stdout + ended.stderr).decode("latin-1")
        answers = [dcmread(path, force=True) for path in sorted(Path(folder).iterdir())]
    statuses = [int(status, 16) for status in _FINAL.findall(printed)]
    assert statuses, printed
    return Found(answers, statuses[-1])


def gdcmscu(port: int, level: str, *keys: str, called: str = "ORTHANC") -> str:
    """GDCM's C-FIND in Study Root with keys such as "10,20=A"; what it printed."""
    arguments = [part for key in keys for part in ("--key", key)]
    peer = ["127.0.0.1", str(port), "--aetitle", "GDCMSCU", "--call", called]
    command = ["/usr/bin/gdcmscu", "--find", "--studyroot", f"--{level}", *arguments, *peer]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    return (ended.stdout + ended.stderr).decode("utf-8", "replace")


class Querier(RawPeer):
    """A peer with one association for queries."""

    def open(self, abstract_syntax: str = STUDY_ROOT, transfer_syntax: str = EXPLICIT) -> Querier:
        self.syntax = transfer_syntax
        answer = self.associate([Context(1, abstract_syntax, [transfer_syntax])], calling="FINDER")
        assert answer.results[1] == 0
        return self

    def ask(self, identifier: Dataset | bytes | None, message_id: int = 1) -> None:
        elements = {0x0002: STUDY_ROOT, 0x0100: C_FIND_RQ, 0x0110: message_id, 0x0700: 0}
        data = encode(identifier, self.syntax) if isinstance(identifier, Dataset) else identifier
        command = command_set({**elements, 0x0800: 0x0101 if data is None else 1})
        self.message(1, command, data)

    def cancel(self, message_id: int = 1) -> None:
        elements = {0x0100: C_CANCEL_RQ, 0x0120: message_id, 0x0800: 0x0101}
        self.send(p_data(pdv(1, COMMAND | LAST, command_set(elements))))

    def answer(self) -> tuple[Response, Dataset | None]:
        """The next response, with its identifier if it has one."""
        response = self.response()
        if response.values[0x0800] == b"\x01\x01":
            return response, None
        data, control = b"", 0
        while not control & LAST:
            pdu = self.read_pdu()
            length, _context, control = struct.unpack_from(">LBB", pdu.body)
            assert control & COMMAND == DATA_SET
            data += pdu.body[6 : 4 + length]
        return response, read_dataset(BytesIO(data), self.syntax == IMPLICIT, self.syntax != BIG_ENDIAN)

    def all_answers(self) -> Found:
        answers = []
        while True:
            response, identifier = self.answer()
            if response.status != PENDING:
                return Found(answers, response.status, response.comment, response.offending_element)
            assert identifier is not None
            answers.append(identifier)

    def find(self, identifier: Dataset | bytes | None) -> Found:
        self.ask(identifier)
        return self.all_answers()


def keys(level: str, **values: str) -> Dataset:
    """An identifier."""
    data_set = Dataset()
    data_set.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(data_set, keyword, int(value) if keyword == "Rows" and value else value)
    return data_set
