"""The A-ASSOCIATE-RQ (PS3.8 9.3.2) before pynetdicom acts on it: what it would stumble over, or silently change.

Its decoder drops characters outside ASCII from AE titles (a stranger's title becomes another's) and refuses blank
ones with an abort; its state machine dies of contexts that the standard does not allow.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

from gateway.admission import is_ae_title
from scp.pdu_reader import InvalidPdu

# Protocol version, reserved, called and calling AE title, reserved (PS3.8 table 9-11), without the PDU's header.
_FIXED_FIELDS = struct.Struct(">H2s16s16s32s")
# PS3.8 table 9-11: of the protocol version only bit 0 shall be tested.
_VERSION_1: Final = 0x0001
# Stands for a title that is none, until the association is rejected for it.
_NO_TITLE: Final = b"?".ljust(16)


def ae_titles(body: bytes) -> tuple[str, str]:
    """Return called and calling AE title, bytes as Latin-1, without spaces around and the NULs that some pad with.

    `body` is the PDU behind its length. Raises InvalidPdu.
    """
    _version, _reserved, called, calling, _rest = _fixed_fields(body)
    return _title(called), _title(calling)


def decodable(body: bytes) -> bytes:
    """Return `body` as pynetdicom can decode it. Raises InvalidPdu."""
    version, reserved, called, calling, rest = _fixed_fields(body)
    if version & _VERSION_1:
        version = _VERSION_1
    fixed = _FIXED_FIELDS.pack(version, reserved, _padded(called), _padded(calling), rest)
    return fixed + body[_FIXED_FIELDS.size :]


def check(pdu: Any) -> str:
    """Check a decoded A_ASSOCIATE_RQ; return why the state machine will reject it, or "". Raises InvalidPdu.

    The state machine converts the PDU into a primitive where a failure could not be answered, so it is done here.
    """
    primitive = pdu.to_primitive()
    pdu.to_primitive = lambda: primitive
    _check_contexts(primitive.presentation_context_definition_list)
    if pdu.protocol_version != _VERSION_1:
        return f"protocol version 0x{pdu.protocol_version:04X} is not supported"
    return ""


def _check_contexts(proposed: Sequence[Any]) -> None:
    """PS3.8 9.3.2.2: each presentation context has an ID of its own and one transfer syntax or more."""
    seen: set[int] = set()
    for context in proposed:
        if context.context_id in seen:
            raise InvalidPdu(f"presentation context ID {context.context_id} is proposed twice")
        if not context.transfer_syntax:
            raise InvalidPdu(f"presentation context {context.context_id} without transfer syntax")
        seen.add(context.context_id)


def _fixed_fields(body: bytes) -> tuple[Any, ...]:
    if len(body) < _FIXED_FIELDS.size:
        raise InvalidPdu(f"A-ASSOCIATE-RQ of {len(body)} bytes")
    return _FIXED_FIELDS.unpack_from(body)


def _title(field: bytes) -> str:
    return field.decode("latin-1").strip(" \0")


def _padded(field: bytes) -> bytes:
    title = _title(field)
    return title.encode("ascii").ljust(16) if is_ae_title(title) else _NO_TITLE
