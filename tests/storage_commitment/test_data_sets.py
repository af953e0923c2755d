"""The data sets of storage commitment, against pydicom's encoder and decoder, and hostile ones."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_commitment import data_sets
from storage_commitment.data_sets import (
    MAXIMUM_DATA_SET_BYTES,
    FailureReason,
    Fault,
    InvalidDataSet,
    encode_report,
    read_report,
    read_request,
)
from tests.support.commitments import ct_of, decoded, encoded, information
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE

SYNTAXES = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])


def fault_of(data: bytes, syntax: str = EXPLICIT) -> Fault:
    with pytest.raises(InvalidDataSet) as raised:
        read_request(data, syntax)
    return raised.value.fault


@SYNTAXES
def test_request_is_read_as_pydicom_wrote_it(syntax: str) -> None:
    pairs = [(CT_IMAGE, "1.2.3"), (MR_IMAGE, "1.2.4")]
    request = read_request(encoded(information("1.2.99", pairs), syntax), syntax)
    assert request.transaction_uid == "1.2.99"
    assert list(request.references) == pairs


def test_instance_that_is_named_twice_counts_once() -> None:
    assert len(read_request(encoded(information("1.2.99", ct_of("1.2.3", "1.2.3"))), EXPLICIT).references) == 1


def test_ten_thousand_instances_are_read() -> None:
    uids = [f"1.2.3.{number}" for number in range(10_000)]
    request = read_request(encoded(information("1.2.99", ct_of(*uids))), EXPLICIT)
    assert [one.sop_instance_uid for one in request.references] == uids


@pytest.mark.parametrize(
    ("data_set", "fault"),
    [
        (information(None, ct_of("1.2.3")), Fault.MISSING_ATTRIBUTE),
        (information("1.2.99", None), Fault.MISSING_ATTRIBUTE),
        (information("1.2.99", []), Fault.INVALID_VALUE),
        (information("", ct_of("1.2.3")), Fault.INVALID_VALUE),
        (information("1.2.99", [(CT_IMAGE, "")]), Fault.INVALID_VALUE),
        (information("1.2.99", [("", "1.2.3")]), Fault.INVALID_VALUE),
    ],
)
def test_what_a_request_lacks_has_its_own_fault(data_set: Any, fault: Fault) -> None:
    assert fault_of(encoded(data_set)) is fault


def test_reference_without_its_sop_instance_uid_is_a_missing_attribute() -> None:
    data_set = information("1.2.99", ct_of("1.2.3"))
    del data_set.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert fault_of(encoded(data_set)) is Fault.MISSING_ATTRIBUTE


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("uid", ["1.2.xx", "1..234", "1.2." + "3" * 62])
def test_what_is_no_uid_is_an_invalid_value(uid: str) -> None:
    placeholder = "9" * len(uid)
    data = encoded(information("1.2.99", ct_of(placeholder)))
    assert fault_of(data.replace(placeholder.encode(), uid.encode())) is Fault.INVALID_VALUE


def test_nothing_at_all_is_a_missing_attribute() -> None:
    assert fault_of(b"") is Fault.MISSING_ATTRIBUTE


def test_broken_bytes_are_unreadable() -> None:
    assert fault_of(encoded(information("1.2.99", ct_of("1.2.3")))[:-3]) is Fault.UNREADABLE


def test_too_many_bytes_and_too_many_instances_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault_of(bytes(MAXIMUM_DATA_SET_BYTES + 1)) is Fault.TOO_LARGE
    monkeypatch.setattr(data_sets, "MAXIMUM_REFERENCES", 2)
    assert fault_of(encoded(information("1.2.99", ct_of("1.1", "1.2", "1.3")))) is Fault.TOO_LARGE


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_request_or_invalid(data: bytes) -> None:
    for syntax in (EXPLICIT, IMPLICIT):
        try:
            read_request(data, syntax)
            read_report(data, syntax)
        except InvalidDataSet:
            pass


@given(position=st.integers(0, 200), byte=st.integers(0, 255))
def test_one_wrong_byte_never_does_more_than_make_it_invalid(position: int, byte: int) -> None:
    data = bytearray(encoded(information("1.2.99", ct_of("1.2.3", "1.2.4"), [((CT_IMAGE, "1.2.5"), 0x0112)])))
    data[position % len(data)] = byte
    with contextlib.suppress(InvalidDataSet):
        read_report(bytes(data), EXPLICIT)


@SYNTAXES
def test_report_is_what_pydicom_reads(syntax: str) -> None:
    request = read_request(encoded(information("1.2.99", ct_of("1.2.3", "1.2.4"))), EXPLICIT)
    failures = {"1.2.4": FailureReason.CLASS_INSTANCE_CONFLICT}
    report = decoded(encode_report(request, failures, "ORTHANC", syntax), syntax)
    assert report.TransactionUID == "1.2.99"
    assert report.RetrieveAETitle == "ORTHANC"
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == ["1.2.3"]
    (failed,) = report.FailedSOPSequence
    assert (failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID) == (CT_IMAGE, "1.2.4")
    assert failed.FailureReason == 0x0119


def test_report_without_failures_has_no_failed_sop_sequence_and_the_other_way_round() -> None:
    request = read_request(encoded(information("1.2.99", ct_of("1.2.3"))), EXPLICIT)
    assert "FailedSOPSequence" not in decoded(encode_report(request, {}, "ORTHANC", EXPLICIT))
    failures = {"1.2.3": FailureReason.PROCESSING_FAILURE}
    assert "ReferencedSOPSequence" not in decoded(encode_report(request, failures, "ORTHANC", EXPLICIT))


@SYNTAXES
def test_report_of_others_is_read_as_pydicom_wrote_it(syntax: str) -> None:
    data_set = information("1.2.99", ct_of("1.2.3"), [((CT_IMAGE, "1.2.4"), 0x0131)])
    report = read_report(encoded(data_set, syntax), syntax)
    assert report.transaction_uid == "1.2.99"
    assert list(report.committed) == ct_of("1.2.3")
    assert list(report.failed) == [((CT_IMAGE, "1.2.4"), 0x0131)]
