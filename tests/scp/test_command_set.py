"""The hand-written command set codec against pynetdicom's, which all other services use."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.tag import Tag
from pynetdicom import dimse_messages, dsutils
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_EVENT_REPORT

from scp import command_set
from scp.command_set import (
    Command,
    InvalidCommand,
    MoveOriginator,
    Request,
    Response,
    decode,
    decode_response,
    encode_request,
    encode_response,
    p_data_tf,
)
from scp.statuses import Status
from tests.support import rawdicom

quick = settings(deadline=None, max_examples=150)

uids = st.from_regex(r"[1-9][0-9]{0,6}(\.(0|[1-9][0-9]{0,6})){1,7}", fullmatch=True).filter(lambda uid: len(uid) <= 64)
message_ids = st.integers(0, 0xFFFF)
statuses = st.sampled_from([status.code for status in Status])
comments = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=90)
tags = st.one_of(st.none(), st.integers(0, 0xFFFFFFFF))


def encoded_by_pynetdicom(message: Any, primitive: Any) -> bytes:
    """The command set as pynetdicom puts it on the wire."""
    message.primitive_to_message(primitive)
    (command, *_) = message.encode_msg(1, 0)
    ((_context_id, fragment),) = command.presentation_data_value_list
    return bytes(fragment[1:])


@quick
@given(uids, uids, message_ids, st.booleans())
def test_store_request_of_pynetdicom_is_decoded(sop_class: str, instance: str, message_id: int, move: bool) -> None:
    request = C_STORE()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
    request.MessageID, request.Priority = message_id, 2
    request.DataSet = BytesIO(b"ab")
    if move:
        request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = "MOVER", 9
    command = decode(encoded_by_pynetdicom(dimse_messages.C_STORE_RQ(), request))
    assert command.data_set_type != command_set.NO_DATA_SET
    assert (command.field, command.message_id) == (command_set.C_STORE_RQ, message_id)
    assert (command.affected_sop_class_uid, command.affected_sop_instance_uid) == (sop_class, instance)


@quick
@given(message_ids)
def test_echo_request_of_pynetdicom_is_decoded(message_id: int) -> None:
    request = C_ECHO()
    request.AffectedSOPClassUID, request.MessageID = rawdicom.VERIFICATION, message_id
    assert decode(encoded_by_pynetdicom(dimse_messages.C_ECHO_RQ(), request)) == Command(
        command_set.C_ECHO_RQ, message_id, command_set.NO_DATA_SET, rawdicom.VERIFICATION, ""
    )


@quick
@given(uids, uids, message_ids, statuses, comments, tags)
def test_store_response_is_read_by_pydicom_as_it_was_meant(
    sop_class: str, instance: str, message_id: int, status: int, comment: str, tag: int | None
) -> None:
    request = Command(command_set.C_STORE_RQ, message_id, 0, sop_class, instance)
    data = encode_response(request, status, error_comment=comment, offending_element=tag)
    read = dsutils.decode(BytesIO(data), True, True)
    assert read.CommandGroupLength == len(data) - 12
    assert [element.tag for element in read] == sorted(element.tag for element in read)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (sop_class, instance)
    assert (read.CommandField, read.CommandDataSetType) == (0x8001, command_set.NO_DATA_SET)
    assert (read.MessageIDBeingRespondedTo, read.Status) == (message_id, status)
    assert ("OffendingElement" in read) == (tag is not None)
    if tag is not None:
        assert read.OffendingElement == Tag(tag)
    assert read.get("ErrorComment", "").rstrip() == comment[: command_set.ERROR_COMMENT_CHARACTERS].rstrip()


@quick
@given(uids, uids, message_ids, statuses)
def test_store_response_is_the_bytes_that_pynetdicom_would_send(
    sop_class: str, instance: str, message_id: int, status: int
) -> None:
    response = C_STORE()
    response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = sop_class, instance
    response.MessageIDBeingRespondedTo, response.Status = message_id, status
    request = Command(command_set.C_STORE_RQ, message_id, 0, sop_class, instance)
    assert encode_response(request, status) == encoded_by_pynetdicom(dimse_messages.C_STORE_RSP(), response)


@quick
@given(message_ids)
def test_echo_response_is_the_bytes_that_pynetdicom_would_send(message_id: int) -> None:
    response = C_ECHO()
    response.AffectedSOPClassUID = rawdicom.VERIFICATION
    response.MessageIDBeingRespondedTo, response.Status = message_id, 0
    request = Command(command_set.C_ECHO_RQ, message_id, command_set.NO_DATA_SET, rawdicom.VERIFICATION, "")
    assert encode_response(request, 0) == encoded_by_pynetdicom(dimse_messages.C_ECHO_RSP(), response)


@pytest.mark.parametrize("padding", ["", " ", "\0", "  ", "\0 "])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "1.02.3"])
def test_odd_lengths_and_padding_of_uids_are_no_matter(uid: str, padding: str) -> None:
    command = decode(rawdicom.store_rq((uid + padding).encode(), sop_class_uid=(uid + padding).encode()))
    assert (command.affected_sop_class_uid, command.affected_sop_instance_uid) == (uid, uid)


def test_comment_beyond_ascii_is_sent_as_ascii() -> None:
    request = Command(command_set.C_STORE_RQ, 1, 0, "1.2", "1.3")
    read = dsutils.decode(BytesIO(encode_response(request, 0xC000, error_comment="Gerät voll — 満")), True, True)
    assert read.ErrorComment == "Ger?t voll ? ?"


@quick
@given(st.binary(max_size=400))
def test_random_bytes_are_a_command_or_invalid(noise: bytes) -> None:
    try:
        command = decode(noise)
    except InvalidCommand:
        return
    assert 0 <= command.field <= 0xFFFF


@quick
@given(st.binary(min_size=1, max_size=8), st.integers(0, 200), st.sampled_from(["replace", "insert", "cut"]))
def test_a_damaged_command_is_a_command_or_invalid(noise: bytes, position: int, how: str) -> None:
    whole = rawdicom.store_rq("1.2.840.99999.1")
    position %= len(whole)
    rest = {"replace": position + len(noise), "insert": position, "cut": len(whole)}[how]
    try:
        command = decode(whole[:position] + noise + whole[rest:])
    except InvalidCommand:
        return
    assert 0 <= command.message_id <= 0xFFFF


def _without(*numbers: int) -> bytes:
    elements: dict[int, int | str | bytes] = {0x0002: "1.2", 0x0100: 1, 0x0110: 7, 0x0800: 0, 0x1000: "1.3"}
    return rawdicom.command_set({number: value for number, value in elements.items() if number not in numbers})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"\(0000,0100\)"),
        (_without(0x0100), r"\(0000,0100\)"),
        (_without(0x0800), r"\(0000,0800\)"),
        (rawdicom.command_set({0x0100: b"\1\0\0\0", 0x0800: 0}), r"\(0000,0100\)"),
        (struct.pack("<HHL", 8, 0x16, 0), r"\(0008,0016\)"),
        (struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF), "of 4294967295 bytes"),
        (struct.pack("<HHLB", 0, 0x0100, 2, 1), "of 2 bytes"),
    ],
    ids=["empty", "no field", "no data set type", "field of 4 bytes", "group 0008", "undefined length", "cut short"],
)
def test_command_that_cannot_be_served_is_invalid_and_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidCommand, match=reason):
        decode(data)


@pytest.mark.parametrize("mend", [lambda data: data + bytes(4), lambda data: data[12:], lambda data: b"\0" * 8 + data])
def test_padding_and_missing_group_length_are_no_matter(mend: Callable[[bytes], bytes]) -> None:
    assert decode(mend(rawdicom.store_rq("1.2.3"))).affected_sop_instance_uid == "1.2.3"


@quick
@given(st.binary(min_size=1, max_size=500), st.integers(0, 600))
def test_fragments_fit_the_peers_maximum_and_are_the_command(command: bytes, maximum: int) -> None:
    stream, joined, control = p_data_tf(5, command, maximum), b"", 0
    while stream:
        pdu_type, length = struct.unpack_from(">BxL", stream)
        assert pdu_type == rawdicom.P_DATA_TF
        assert not maximum or length <= max(maximum, 8)
        size, context_id, control = struct.unpack_from(">LBB", stream, 6)
        assert (size, context_id) == (length - 4, 5)
        joined, stream = joined + stream[12 : 6 + length], stream[6 + length :]
        assert (control == rawdicom.COMMAND | rawdicom.LAST) == (not stream)
    assert joined == command


originators = st.builds(
    MoveOriginator,
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16),
    message_ids,
)


@quick
@given(uids, uids, message_ids, st.sampled_from([0, 1, 2]), st.one_of(st.none(), originators))
def test_store_request_is_that_of_pynetdicom(
    sop_class: str, instance: str, message_id: int, priority: int, originator: MoveOriginator | None
) -> None:
    request = C_STORE()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
    request.MessageID, request.Priority = message_id, priority
    request.DataSet = BytesIO(b"ab")
    if originator:
        request.MoveOriginatorApplicationEntityTitle = originator.ae_title
        request.MoveOriginatorMessageID = originator.message_id
    ours = Request(command_set.C_STORE_RQ, sop_class, instance, priority=priority, move_originator=originator)
    assert encode_request(ours, message_id, data_set=True) == encoded_by_pynetdicom(
        dimse_messages.C_STORE_RQ(), request
    )


@quick
@given(message_ids)
def test_echo_request_is_that_of_pynetdicom(message_id: int) -> None:
    request = C_ECHO()
    request.AffectedSOPClassUID, request.MessageID = rawdicom.VERIFICATION, message_id
    ours = Request(command_set.C_ECHO_RQ, rawdicom.VERIFICATION)
    assert encode_request(ours, message_id, data_set=False) == encoded_by_pynetdicom(
        dimse_messages.C_ECHO_RQ(), request
    )


@quick
@given(uids, uids, message_ids, st.integers(0, 0xFFFF), st.booleans())
def test_event_report_is_that_of_pynetdicom(
    sop_class: str, instance: str, message_id: int, event_type: int, data_set: bool
) -> None:
    request = N_EVENT_REPORT()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
    request.MessageID, request.EventTypeID = message_id, event_type
    if data_set:
        request.EventInformation = BytesIO(b"ab")
    ours = Request(command_set.N_EVENT_REPORT_RQ, sop_class, instance, event_type_id=event_type)
    assert encode_request(ours, message_id, data_set=data_set) == encoded_by_pynetdicom(
        dimse_messages.N_EVENT_REPORT_RQ(), request
    )


@quick
@given(uids, uids, message_ids, statuses, comments, tags)
def test_response_of_pynetdicom_is_decoded(
    sop_class: str, instance: str, message_id: int, status: int, comment: str, tag: int | None
) -> None:
    response = C_STORE()
    response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = sop_class, instance
    response.MessageIDBeingRespondedTo, response.Status = message_id, status
    response.ErrorComment = comment[:64]
    if tag is not None:
        response.OffendingElement = [Tag(tag), Tag(0x00080016)]
    decoded = decode_response(encoded_by_pynetdicom(dimse_messages.C_STORE_RSP(), response))
    assert decoded == Response(
        command_set.C_STORE_RQ | command_set.RESPONSE_BIT,
        message_id,
        command_set.NO_DATA_SET,
        status,
        comment[:64].strip(" "),
        () if tag is None else (tag, 0x00080016),
    )


@pytest.mark.parametrize("missing", [0x0120, 0x0900, 0x0800, 0x0100])
def test_response_without_what_it_needs_is_invalid(missing: int) -> None:
    elements: dict[int, int | str | bytes] = {0x0100: 0x8001, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0}
    assert decode_response(rawdicom.command_set(elements)).status == 0
    del elements[missing]
    with pytest.raises(InvalidCommand, match=f"{missing:04X}"):
        decode_response(rawdicom.command_set(elements))


def test_offending_element_that_is_cut_off_is_left_away() -> None:
    elements = {0x0100: 0x8001, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0xA900, 0x0901: b"\x08\x00\x16\x00\x10\x00"}
    assert decode_response(rawdicom.command_set(elements)).offending_elements == (0x00080016,)


@pytest.mark.parametrize("maximum", [8, 9, 15, 16, 127])
def test_fragments_of_a_command_have_even_lengths(maximum: int) -> None:
    command = encode_request(Request(command_set.C_ECHO_RQ, rawdicom.VERIFICATION), 1, data_set=False)
    pdus = p_data_tf(1, command, maximum)
    sizes = []
    while pdus:
        (length,) = struct.unpack_from(">2xL", pdus)
        assert length <= maximum
        sizes.append(length)
        pdus = pdus[6 + length :]
    assert all(size % 2 == 0 for size in sizes)


def test_error_comment_is_one_value_of_vr_lo() -> None:
    """PS3.5 6.2: neither a backslash, which would make two values of it, nor control characters."""
    request = Command(command_set.C_STORE_RQ, 1, command_set.NO_DATA_SET, "1.2", "1.3")
    encoded = encode_response(request, 0xC000, error_comment="A\\B\r\n\x1b[0m\x7fÄ" + "x" * 80)
    comment = decode_response(encoded).error_comment
    assert comment == ("A?B???[0m??" + "x" * 80)[:64]


@pytest.mark.parametrize("maximum", [0, 1, 7, 8, 16384])
def test_empty_data_set_that_was_announced_is_sent(maximum: int) -> None:
    """One PDV without data: a receiver waits for the last fragment."""
    expected = rawdicom.p_data(rawdicom.pdv(3, rawdicom.LAST))
    assert p_data_tf(3, b"", maximum, data_set=True) == expected
