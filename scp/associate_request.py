"""The A-ASSOCIATE-RQ PDU (PS3.8 9.3.2), decoded into what an acceptor looks at.

Replaces pynetdicom's decoder, which makes several objects of each item and checks each UID with regular expressions,
drops characters outside ASCII from AE titles (a stranger's title becomes another's) and aborts on items that are not
in the standard yet, which PS3.8 9.3.1 wants skipped.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from scp import item_types
from scp.pdu_reader import InvalidPdu

# PS3.7 annex A.2.1: the only application context name.
APPLICATION_CONTEXT_NAME: Final = "1.2.840.10008.3.1.1.1"

# Protocol version, reserved, called and calling AE title, reserved (PS3.8 table 9-11), without the PDU's header.
_FIXED_FIELDS = struct.Struct(">Hxx16s16s32x")
# PS3.8 table 9-17: the A-ASSOCIATE-AC repeats these fields as they are, AE titles and reserved bytes.
_REPEATED: Final = slice(4, _FIXED_FIELDS.size)

_LENGTH = struct.Struct(">H")
_MAXIMUM_LENGTH = struct.Struct(">L")


# A modality proposes the same again and again. Longer items are decoded each time, so that nobody fills the memory.
_REMEMBERED_ITEMS: Final = 1024
_REMEMBERED_ITEM_BYTES: Final = 1024

_CONTEXT_ID_BYTES: Final = 4  # the ID and three reserved bytes


class ProposedContext(NamedTuple):
    """A presentation context (PS3.8 9.3.2.2); transfer syntaxes in the order of the peer, each once, at least one."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class Role(NamedTuple):
    """SCP/SCU role selection for one SOP class (PS3.7 D.3.3.4): what the requestor is, or may be."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User identity (PS3.7 D.3.3.7). `type`: 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token."""

    type: int
    response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """What the A-ASSOCIATE-RQ says. Text is decoded as Latin-1, without padding; only the structure has been checked.

    `maximum_length` is in bytes, 0 is without limit. `repeated` are the bytes that the A-ASSOCIATE-AC repeats.
    """

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    repeated: bytes
    contexts: tuple[ProposedContext, ...]
    maximum_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    roles: Mapping[str, Role] = field(default_factory=dict)
    # Service class application information by SOP class UID (PS3.7 D.3.3.5).
    sop_class_extended: Mapping[str, bytes] = field(default_factory=dict)
    user_identity: UserIdentity | None = None
    application_context_name: str = APPLICATION_CONTEXT_NAME


def decode(body: bytes) -> AssociateRequest:
    """Decode `body`, the PDU behind its length. Raises InvalidPdu, and nothing else."""
    if len(body) < _FIXED_FIELDS.size:
        raise InvalidPdu(f"A-ASSOCIATE-RQ of {len(body)} bytes")
    version, called, calling = _FIXED_FIELDS.unpack_from(body)
    contexts: dict[int, ProposedContext] = {}
    application_context_name = ""
    user_information = _UserInformation()
    for item_type, content in _items(body, _FIXED_FIELDS.size):
        if item_type == item_types.PRESENTATION_CONTEXT:
            context = _context(content)
            if context.context_id in contexts:
                raise InvalidPdu(f"presentation context ID {context.context_id} is proposed twice")
            contexts[context.context_id] = context
        elif item_type == item_types.USER_INFORMATION:
            user_information.add(content)
        elif item_type == item_types.APPLICATION_CONTEXT:
            application_context_name = _text(content)
    return AssociateRequest(
        protocol_version=version,
        called_ae_title=_text(called),
        calling_ae_title=_text(calling),
        repeated=body[_REPEATED],
        contexts=tuple(contexts.values()),
        application_context_name=application_context_name,
        **vars(user_information),
    )


class _UserInformation:
    """The sub-items of the user information (PS3.7 D.3.3) while they are collected, named as in AssociateRequest."""

    def __init__(self) -> None:
        self.maximum_length = 0
        self.implementation_class_uid = ""
        self.implementation_version_name = ""
        self.roles: dict[str, Role] = {}
        self.sop_class_extended: dict[str, bytes] = {}
        self.user_identity: UserIdentity | None = None

    def add(self, item: bytes) -> None:
        for item_type, content in _items(item):
            if item_type == item_types.MAXIMUM_LENGTH_RECEIVED:
                if len(content) != _MAXIMUM_LENGTH.size:
                    raise _undecodable(f"maximum length of {len(content)} bytes")
                (self.maximum_length,) = _MAXIMUM_LENGTH.unpack(content)
            elif item_type == item_types.IMPLEMENTATION_CLASS_UID:
                self.implementation_class_uid = _text(content)
            elif item_type == item_types.IMPLEMENTATION_VERSION_NAME:
                self.implementation_version_name = _text(content)
            elif item_type == item_types.ROLE_SELECTION:
                uid, roles = _counted(content)
                if len(roles) != 2 or max(roles) > 1:
                    raise _undecodable("role selection that is none")
                self.roles[_text(uid)] = Role(scu=bool(roles[0]), scp=bool(roles[1]))
            elif item_type == item_types.SOP_CLASS_EXTENDED:
                uid, information = _counted(content)
                self.sop_class_extended[_text(uid)] = information
            elif item_type == item_types.USER_IDENTITY:
                self.user_identity = _user_identity(content)


def _context(content: bytes) -> ProposedContext:
    """PS3.8 9.3.2.2: an odd ID, one abstract syntax, one transfer syntax or more."""
    if len(content) < _CONTEXT_ID_BYTES:
        raise _undecodable(f"presentation context of {len(content)} bytes")
    context_id = content[0]
    if not context_id % 2:
        raise _undecodable(f"presentation context ID {context_id} is not odd")
    names = content[_CONTEXT_ID_BYTES:]
    decode_names = _remembered_syntaxes if len(names) <= _REMEMBERED_ITEM_BYTES else _syntaxes
    abstract_syntax, transfer_syntaxes = decode_names(names)
    if abstract_syntax is None:
        raise _undecodable(f"presentation context {context_id} without abstract syntax")
    if not transfer_syntaxes:
        raise InvalidPdu(f"presentation context {context_id} without transfer syntax")
    return ProposedContext(context_id, abstract_syntax, transfer_syntaxes)


def _syntaxes(content: bytes) -> tuple[str | None, tuple[str, ...]]:
    abstract_syntax: str | None = None
    transfer_syntaxes: dict[str, None] = {}
    for item_type, name in _items(content):
        if item_type == item_types.TRANSFER_SYNTAX and name:
            transfer_syntaxes[_text(name)] = None
        elif item_type == item_types.ABSTRACT_SYNTAX:
            abstract_syntax = _text(name)
    return abstract_syntax, tuple(transfer_syntaxes)


_remembered_syntaxes = lru_cache(_REMEMBERED_ITEMS)(_syntaxes)


def _user_identity(content: bytes) -> UserIdentity:
    if len(content) < 2:
        raise _undecodable(f"user identity of {len(content)} bytes")
    primary, rest = _counted(content[2:])
    # Types without secondary field shall have one of no bytes; some leave its length away.
    secondary = _counted(rest)[0] if rest else b""
    return UserIdentity(content[0], bool(content[1]), primary, secondary)


def _items(data: bytes, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item in `data` from `position` on."""
    end = len(data)
    while position < end:
        start = position + item_types.HEADER.size
        if start > end:
            raise _undecodable(f"{end - position} bytes that are no item")
        item_type, length = item_types.HEADER.unpack_from(data, position)
        position = start + length
        if position > end:
            raise _undecodable(f"item of type 0x{item_type:02X} and {length} bytes, {end - start} are left")
        yield item_type, data[start:position]


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """Return what the length at the beginning of `data` counts, and what follows it."""
    if len(data) < _LENGTH.size:
        raise _undecodable("sub-item without length")
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    if end > len(data):
        raise _undecodable(f"sub-item with a field of {length} bytes, {len(data) - _LENGTH.size} are left")
    return data[_LENGTH.size : end], data[end:]


def _text(field_value: bytes) -> str:
    """AE titles are padded with spaces, by some with NULs; UIDs by some with a NUL (PS3.8 annex F: not at all)."""
    return field_value.decode("latin-1").strip(" \0")


def _undecodable(reason: str) -> InvalidPdu:
    return InvalidPdu(f"A-ASSOCIATE-RQ cannot be decoded: {reason}")
