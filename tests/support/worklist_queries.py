"""Worklist items, peers that ask for them, and DCMTK's wlmscpfs as another SCP."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from gateway.database import connect_sqlite
from gateway.dicom.character_sets import CharacterSet
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_attributes
from tests.support.data_sets import EXPLICIT, encode
from tests.support.orthanc import Orthanc
from tests.support.ports import accepts, free_port
from tests.support.querying import C_FIND_RQ, Found, Querier
from tests.support.rawdicom import Context, command_set
from tests.support.server import Server
from tests.support.standalone import Gateway
from worklist import store
from worklist.items import Item, Status

WORKLIST: Final = "1.2.840.10008.5.1.4.31"
PENDINGS: Final = (0xFF00, 0xFF01)
STEP_KEYWORDS: Final = frozenset(
    (
        "Modality",
        "RequestedContrastAgent",
        "PreMedication",
        "ReferencedDefinedProtocolSequence",
        "ReferencedPerformedProtocolSequence",
        "CommentsOnTheScheduledProcedureStep",
    )
)

ITEM_KEYWORDS: Final = frozenset(("ScheduledSpecimenSequence", "ScheduledProcedureStepSequence"))


def nested(**values: Any) -> Dataset:
    """A data set; what belongs to the Scheduled Procedure Step is put into its sequence. None is left out."""
    data_set, step = Dataset(), Dataset()
    for keyword, value in values.items():
        in_step = keyword in STEP_KEYWORDS or (keyword.startswith("Scheduled") and keyword not in ITEM_KEYWORDS)
        if value is not None:
            with warnings.catch_warnings(action="ignore"):  # keys are no values: pydicom warns of wildcards
                setattr(step if in_step else data_set, keyword, value)
    if len(step):
        data_set.ScheduledProcedureStepSequence = Sequence([step])
    return data_set


def an_item(number: int, **values: Any) -> Dataset:
    """A complete worklist item (PS3.4 table K.6-1, types 1 and 2)."""
    return nested(
        **{
            "SpecificCharacterSet": "ISO_IR 192",
            "PatientName": f"Name^{number}",
            "PatientID": f"P{number}",
            "PatientBirthDate": "19700101",
            "PatientSex": "O",
            "AccessionNumber": f"A{number}",
            "StudyInstanceUID": f"2.25.{1000 + number}",
            "RequestedProcedureID": f"RP{number}",
            "RequestedProcedureDescription": "Procedure",
            "ReferringPhysicianName": "Referring^R",
            "RequestingPhysician": "Requesting^R",
            "ReferencedStudySequence": Sequence(),
            "ReferencedPatientSequence": Sequence(),
            "Modality": "CT",
            "ScheduledStationAETitle": "CT1",
            "ScheduledProcedureStepStartDate": "20240102",
            "ScheduledProcedureStepStartTime": f"{8 + number % 10:02}0000",
            "ScheduledProcedureStepID": f"S{number}",
            "ScheduledProcedureStepDescription": "Step",
            **values,
        }
    )


def attributes_of(data_set: Dataset) -> Attributes:
    """As the store keeps it."""
    return read_attributes(encode(data_set, EXPLICIT), EXPLICIT, CharacterSet(("ISO_IR 100",)))


def write_file(path: Path, data_set: Dataset) -> None:
    """A `.wl` file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = WORKLIST
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    file = FileDataset(str(path), data_set, file_meta=meta, preamble=bytes(128))
    file.save_as(path, enforce_file_format=True)


def add_items(gateway: Gateway | Orthanc, *items: Dataset | tuple[Dataset, Status]) -> list[Item]:
    """Puts items into the store of a gateway that runs."""
    database = connect_sqlite(gateway.state_directory / "gateway.sqlite")
    try:
        with database.write(lock=store.LOCK) as connection:
            return [
                store.add(connection, attributes_of(data_set), store.Change.now("test"), origin="test", status=status)
                for data_set, status in (one if isinstance(one, tuple) else (one, Status.SCHEDULED) for one in items)
            ]
    finally:
        database.close()


@dataclass
class Worklist(Found):
    """The answers to a worklist query with the status of each, and their bytes."""

    pendings: list[int] = field(default_factory=list)

    def values(self, keyword: str) -> list[str]:
        """The values of an attribute, of the Scheduled Procedure Step too."""
        found = []
        for answer in self.answers:
            steps = answer.get("ScheduledProcedureStepSequence") or []
            holder = answer if keyword in answer or not steps else steps[0]
            found.append(str(holder.get(keyword, "")))
        return found


class WorklistQuerier(Querier):
    """A peer with one association for worklist queries."""

    def open(
        self,
        abstract_syntax: str = WORKLIST,
        transfer_syntax: str = EXPLICIT,
        *,
        calling: str = "FINDER",
        called: str = "ORTHANC",
    ) -> WorklistQuerier:
        self.syntax = transfer_syntax
        context = Context(1, abstract_syntax, [transfer_syntax])
        assert self.associate([context], calling=calling, called=called).results[1] == 0
        return self

    def ask(self, identifier: Dataset | bytes | None, message_id: int = 1) -> None:
        elements = {0x0002: WORKLIST, 0x0100: C_FIND_RQ, 0x0110: message_id, 0x0700: 0}
        data = encode(identifier, self.syntax) if isinstance(identifier, Dataset) else identifier
        self.message(1, command_set({**elements, 0x0800: 0x0101 if data is None else 1}), data)

    def all_answers(self) -> Worklist:
        answers, pendings = [], []
        while True:
            response, identifier = self.answer()
            if response.status not in PENDINGS:
                end = (response.status, response.comment, response.offending_element)
                return Worklist(answers, *end, pendings=pendings)
            assert identifier is not None
            answers.append(identifier)
            pendings.append(response.status)

    def find(self, identifier: Dataset | bytes | None) -> Worklist:
        self.ask(identifier)
        return self.all_answers()

    def names(self, **values: Any) -> list[str]:
        """The names of the patients of a query, in the order of the answers."""
        return self.find(nested(**{"PatientName": "", **values})).values("PatientName")


class Wlmscpfs(Server):
    """DCMTK's worklist SCP; its files for the called AE title ORTHANC are in `files`."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.files = directory / "database" / "ORTHANC"
        self.files.mkdir(parents=True)
        (self.files / "lockfile").touch()
        self._options = options
        self.environment = {"TCP_NODELAY": "1"}

    def command(self) -> list[str]:
        database = str(self.files.parent)
        return ["/usr/bin/wlmscpfs", "-v", "-dhl", "-csk", *self._options, "-dfp", database, str(self.port)]

    def ready(self) -> bool:
        return accepts(self.port)
