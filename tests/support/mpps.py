"""Procedure steps as modalities report them, and a peer that reports them to the byte."""

from __future__ import annotations

import warnings
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.support.data_sets import EXPLICIT, encode
from tests.support.rawdicom import Context, RawPeer, Response, command_set

MPPS: Final = "1.2.840.10008.3.1.2.3.3"
N_SET_RQ, N_CREATE_RQ = 0x0120, 0x0140


def scheduled(number: int | None = None, **values: Any) -> Dataset:
    """An item of Scheduled Step Attributes Sequence, for worklist_queries.an_item(number). None: absent."""
    whole: dict[str, Any] = {
        "StudyInstanceUID": f"2.25.{1000 + number}" if number is not None else "2.25.999",
        "ReferencedStudySequence": Sequence(),
        "AccessionNumber": f"A{number}" if number is not None else "",
        "RequestedProcedureID": f"RP{number}" if number is not None else "",
        "RequestedProcedureDescription": "Procedure",
        "ScheduledProcedureStepID": f"S{number}" if number is not None else "",
        "ScheduledProcedureStepDescription": "Step",
        "ScheduledProtocolCodeSequence": Sequence(),
        **values,
    }
    return _data_set(whole)


def begun(*items: Dataset, **values: Any) -> Dataset:
    """The attributes of an N-CREATE (PS3.4 table F.7.2-1, types 1 and 2)."""
    whole: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "Modality": "CT",
        "ProcedureCodeSequence": Sequence(),
        "ReferencedPatientSequence": Sequence(),
        "PatientName": "Müller^Jörg",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "StudyID": "1",
        "PerformedStationAETitle": "CT1",
        "PerformedStationName": "",
        "PerformedLocation": "",
        "PerformedProcedureStepStartDate": "20240102",
        "PerformedProcedureStepStartTime": "101500",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "PPS1",
        "PerformedProcedureStepDescription": "",
        "PerformedProcedureTypeDescription": "",
        "PerformedProtocolCodeSequence": Sequence(),
        "PerformedSeriesSequence": Sequence(),
        "ScheduledStepAttributesSequence": Sequence(items),
        **values,
    }
    return _data_set(whole)


def ended(status: str = "COMPLETED", images: int = 2, **values: Any) -> Dataset:
    """The modifications of the last N-SET."""
    series = Dataset()
    series.PerformingPhysicianName = ""
    series.ProtocolName = "Head"
    series.OperatorsName = ""
    series.SeriesInstanceUID = "2.25.7"
    series.SeriesDescription = ""
    series.RetrieveAETitle = ""
    series.ReferencedNonImageCompositeSOPInstanceSequence = Sequence()
    series.ReferencedImageSequence = Sequence([_reference(number) for number in range(images)])
    return _data_set(
        {
            "PerformedProcedureStepEndDate": "20240102",
            "PerformedProcedureStepEndTime": "103000",
            "PerformedProcedureStepStatus": status,
            "PerformedSeriesSequence": Sequence([series]),
            **values,
        }
    )


def _reference(number: int) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = f"2.25.7.{number}"
    return reference


def _data_set(values: dict[str, Any]) -> Dataset:
    data_set = Dataset()
    with warnings.catch_warnings(action="ignore"):  # of values that are wrong on purpose
        for keyword, value in values.items():
            if value is not None:
                setattr(data_set, keyword, value)
    return data_set


class Modality(RawPeer):
    """A peer with one association for procedure steps."""

    def open(self, transfer_syntax: str = EXPLICIT, *, calling: str = "CT1", called: str = "ORTHANC") -> Modality:
        self.syntax = transfer_syntax
        answer = self.associate([Context(1, MPPS, [transfer_syntax])], calling=calling, called=called)
        assert answer.results[1] == 0
        return self

    def create(self, uid: str | None, attributes: Dataset | bytes | None, sop_class: str = MPPS) -> Response:
        elements: dict[int, Any] = {0x0002: sop_class, 0x0100: N_CREATE_RQ, 0x0110: 1}
        return self._request(elements | ({0x1000: uid} if uid is not None else {}), attributes)

    def set(self, uid: str, modifications: Dataset | bytes | None, sop_class: str = MPPS) -> Response:
        return self._request({0x0003: sop_class, 0x0100: N_SET_RQ, 0x0110: 1, 0x1001: uid}, modifications)

    def _request(self, elements: dict[int, Any], content: Dataset | bytes | None) -> Response:
        data = encode(content, self.syntax) if isinstance(content, Dataset) else content
        # In the order of their tags (PS3.7 6.3.1).
        command = command_set(dict(sorted({**elements, 0x0800: 0x0101 if data is None else 1}.items())))
        self.message(1, command, data)
        return self.response()
