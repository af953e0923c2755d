"""A-ASSOCIATE-RQs that are damaged, contradict themselves or say what is unknown: decoded or refused, nothing else."""

import random
import struct
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.presentation import build_context

from scp import associate_accept, associate_request
from scp.associate_request import AssociateRequest, ProposedContext, UserIdentity
from scp.contexts import Offer
from scp.negotiation import negotiate
from scp.pdu_reader import InvalidPdu
from tests.scp.associate_requests import FIXED_BYTES, body_of, encoded, pynetdicom_as_in_a_worker, requests
from tests.support.data_sets import EXPLICIT
from tests.support.rawdicom import CT_IMAGE, associate_rq


@pytest.fixture(scope="module", autouse=True)
def _as_in_a_worker() -> Iterator[None]:
    with pynetdicom_as_in_a_worker():
        yield


def _item(item_type: int, content: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">BxH", item_type, len(content) if length is None else length) + content


def _counted(content: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">H", len(content) if length is None else length) + content


ABSTRACT: Final = _item(0x30, CT_IMAGE.encode())
TRANSFER: Final = _item(0x40, EXPLICIT.encode())
CONTEXT: Final = _item(0x20, b"\1\0\0\0" + ABSTRACT + TRANSFER)
TITLES: Final = body_of(associate_rq([]))[:FIXED_BYTES]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        pytest.param(b"\x20", "1 bytes that are no item", id="no item header"),
        pytest.param(CONTEXT + b"\x10\0\0", "3 bytes that are no item", id="half an item header"),
        pytest.param(_item(0x20, b"abc", length=4), "type 0x20 and 4 bytes, 3 are left", id="item over PDU"),
        pytest.param(_item(0x99, b"", length=65535), "item of type 0x99", id="unknown item over the PDU"),
        pytest.param(_item(0x20), "presentation context of 0 bytes", id="empty context"),
        pytest.param(_item(0x20, b"\1\0\0"), "presentation context of 3 bytes", id="half a context"),
        pytest.param(_item(0x20, b"\1\0\0\0"), "without abstract syntax", id="context without anything"),
        pytest.param(_item(0x20, b"\1\0\0\0" + TRANSFER), "without abstract syntax", id="no abstract syntax"),
        pytest.param(_item(0x20, b"\1\0\0\0" + ABSTRACT), "without transfer syntax", id="no transfer syntax"),
        pytest.param(
            _item(0x20, b"\1\0\0\0" + ABSTRACT + _item(0x40)), "without transfer syntax", id="empty transfer syntax"
        ),
        pytest.param(
            _item(0x20, b"\1\0\0\0" + ABSTRACT + _item(0x40, b"1.2", length=4)),
            "3 are left",
            id="name over its context",
        ),
        pytest.param(_item(0x20, b"\0\0\0\0" + ABSTRACT + TRANSFER), "ID 0 is not odd", id="context ID 0"),
        pytest.param(_item(0x20, b"\xfe\0\0\0" + ABSTRACT + TRANSFER), "ID 254 is not odd", id="context ID 254"),
        pytest.param(CONTEXT + CONTEXT, "ID 1 is proposed twice", id="context twice"),
        pytest.param(
            b"".join(_item(0x20, bytes([n % 256, 0, 0, 0]) + ABSTRACT + TRANSFER) for n in range(1, 259, 2)),
            "ID 1 is proposed twice",
            id="129 contexts",
        ),
        pytest.param(_item(0x50, b"\x51\0"), "2 bytes that are no item", id="half a sub-item"),
        pytest.param(_item(0x50, _item(0x51, b"\0\0\1")), "maximum length of 3 bytes", id="short maximum length"),
        pytest.param(_item(0x50, _item(0x51, bytes(5))), "maximum length of 5 bytes", id="long maximum length"),
        pytest.param(_item(0x50, _item(0x54, b"\0")), "without length", id="role without length"),
        pytest.param(_item(0x50, _item(0x54, _counted(b"1.2", length=9))), "field of 9 bytes", id="role, UID too long"),
        pytest.param(_item(0x50, _item(0x54, _counted(b"1.2") + b"\1")), "role selection", id="half a role"),
        pytest.param(_item(0x50, _item(0x54, _counted(b"1.2") + b"\1\2")), "role selection", id="role 2"),
        pytest.param(_item(0x50, _item(0x56, _counted(b"1.2", length=4))), "field of 4 bytes", id="extended"),
        pytest.param(_item(0x50, _item(0x58, b"\1")), "user identity of 1 bytes", id="half an identity"),
        pytest.param(_item(0x50, _item(0x58, b"\1\0")), "without length", id="identity without field"),
        pytest.param(
            _item(0x50, _item(0x58, b"\1\0" + _counted(b"name", length=0xFFFF))), "65535 bytes", id="identity too long"
        ),
        pytest.param(
            _item(0x50, _item(0x58, b"\2\0" + _counted(b"name") + b"\0")), "without length", id="half a second field"
        ),
    ],
)
def test_request_that_contradicts_itself_is_refused_with_the_reason(items: bytes, reason: str) -> None:
    with pytest.raises(InvalidPdu, match=reason):
        associate_request.decode(TITLES + items)


@pytest.mark.parametrize("length", [0, 1, FIXED_BYTES - 1])
def test_request_without_all_fixed_fields_is_refused(length: int) -> None:
    with pytest.raises(InvalidPdu, match=f"A-ASSOCIATE-RQ of {length} bytes"):
        associate_request.decode(bytes(length))


UNKNOWN: Final = _item(0x77, b"what a later edition says")


@pytest.mark.parametrize(
    "items",
    [
        UNKNOWN + CONTEXT,
        CONTEXT + UNKNOWN + _item(0x50, b""),
        _item(0x20, b"\1\0\0\0" + UNKNOWN + ABSTRACT + UNKNOWN + TRANSFER + _item(0x41)),
        CONTEXT + _item(0x50, UNKNOWN + _item(0x51, b"\0\0\x40\0") + _item(0x53, b"") + _item(0x57, b"")),
    ],
    ids=["before", "after", "in a context", "in the user information"],
)
def test_items_of_unknown_type_are_skipped(items: bytes) -> None:
    """PS3.8 9.3.1."""
    assert associate_request.decode(TITLES + items).contexts == (ProposedContext(1, CT_IMAGE, (EXPLICIT,)),)


def test_padding_of_names_is_no_part_of_them() -> None:
    padded = _item(0x20, b"\1\0\0\0" + _item(0x30, CT_IMAGE.encode() + b"\0") + _item(0x40, EXPLICIT.encode() + b" "))
    assert associate_request.decode(TITLES + padded).contexts == (ProposedContext(1, CT_IMAGE, (EXPLICIT,)),)


def test_characters_outside_ascii_do_not_vanish_from_names() -> None:
    context = _item(0x20, b"\1\0\0\0" + _item(0x30, b"\xff" + CT_IMAGE.encode()) + TRANSFER)
    assert associate_request.decode(TITLES + context).contexts[0].abstract_syntax == "\xff" + CT_IMAGE


def test_request_without_user_information_sets_no_limit() -> None:
    assert associate_request.decode(TITLES + CONTEXT).maximum_length == 0


def test_user_identity_of_a_type_without_secondary_field_may_lack_its_length() -> None:
    item = _item(0x50, _item(0x58, b"\1\1" + _counted(b"name")))
    assert associate_request.decode(TITLES + item).user_identity == UserIdentity(1, True, b"name", b"")


def test_user_identity_does_not_show_in_what_is_printed_of_a_request() -> None:
    item = _item(0x50, _item(0x58, b"\2\1" + _counted(b"token") + _counted(b"passcode")))
    printed = repr(associate_request.decode(TITLES + item))
    assert "UserIdentity(type=2" in printed
    assert "token" not in printed
    assert "passcode" not in printed


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=400))
def test_random_items_are_decoded_or_refused(items: bytes) -> None:
    _decode_or_refuse(TITLES + items)


@settings(deadline=None, max_examples=500)
@given(requests, st.randoms(use_true_random=False))
def test_damaged_request_is_decoded_or_refused(request: AssociateRequest, chance: random.Random) -> None:
    body = bytearray(body_of(encoded(request)))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(body))
        kind = chance.randrange(4)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            body[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 2:
            del body[at : at + chance.randrange(1, 9)]
        else:
            body[at : at + 2] = chance.choice([b"\0\0", b"\xff\xff", b"\0\1"])
        body = body or bytearray(1)
    _decode_or_refuse(bytes(body))


def _decode_or_refuse(body: bytes) -> None:
    """What passes the decoder must be negotiable and answerable, too."""
    try:
        request = associate_request.decode(body)
    except InvalidPdu:
        return
    ids = [context.context_id for context in request.contexts]
    assert len(ids) <= 128
    assert len(set(ids)) == len(ids)
    contexts, roles_answered = negotiate(request, Offer([build_context(CT_IMAGE, [EXPLICIT])]))
    associate_accept.encode(request.repeated, contexts, 16384, roles=roles_answered)
