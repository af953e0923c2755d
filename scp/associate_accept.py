"""The A-ASSOCIATE-AC PDU (PS3.8 9.3.3), encoded from the outcome of the negotiation.

Replaces pynetdicom's encoder, which makes several objects of each presentation context.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from pynetdicom.presentation import PresentationContext

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp import item_types
from scp.associate_request import APPLICATION_CONTEXT_NAME, Role

_PDU_HEADER = struct.Struct(">BxL")
_PROTOCOL_VERSION: Final = b"\x00\x01\x00\x00"
_LENGTH = struct.Struct(">H")
# PS3.8 table 9-18 up to the name in its only sub-item, the transfer syntax (table 9-19).
_PRESENTATION_CONTEXT = struct.Struct(">BxHBxBxBxH")
_AFTER_CONTEXT_LENGTH_BYTES: Final = 8

_ASSOCIATE_AC: Final = 0x02


def encode(
    repeated: bytes,
    contexts: Iterable[PresentationContext],
    maximum_length: int,
    *,
    roles: Mapping[str, Role],
    identity_response: bytes | None = None,
) -> bytes:
    """Return the whole PDU.

    `repeated` is that of the request, `contexts` and `roles` what `scp.negotiation` made of it, `maximum_length` the
    longest P-DATA-TF that we take, in bytes. `identity_response` is the server's response to a user identity that asked
    for one (PS3.7 D.3.3.7.2).
    """
    user_information = [
        _item(item_types.MAXIMUM_LENGTH_RECEIVED, struct.pack(">L", maximum_length)),
        _IMPLEMENTATION,
        *(_role(uid, role) for uid, role in roles.items()),
    ]
    if identity_response is not None:
        user_information.append(_item(item_types.USER_IDENTITY_RESPONSE, _counted(identity_response)))
    body = b"".join(
        (
            _PROTOCOL_VERSION,
            repeated,
            _APPLICATION_CONTEXT,
            *map(_context, contexts),
            _item(item_types.USER_INFORMATION, b"".join(user_information)),
        )
    )
    return _PDU_HEADER.pack(_ASSOCIATE_AC, len(body)) + body


def _context(context: PresentationContext) -> bytes:
    """PS3.8 9.3.3.2: one transfer syntax, which the peer does not look at unless the context is accepted."""
    name = context.transfer_syntax[0].encode("latin-1")
    return (
        _PRESENTATION_CONTEXT.pack(
            item_types.PRESENTATION_CONTEXT_RESULT,
            _AFTER_CONTEXT_LENGTH_BYTES + len(name),
            context.context_id,
            context.result,
            item_types.TRANSFER_SYNTAX,
            len(name),
        )
        + name
    )


def _role(sop_class_uid: str, role: Role) -> bytes:
    return _item(item_types.ROLE_SELECTION, _counted(sop_class_uid.encode("latin-1")) + bytes((role.scu, role.scp)))


def _item(item_type: int, content: bytes) -> bytes:
    return item_types.HEADER.pack(item_type, len(content)) + content


def _counted(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


_APPLICATION_CONTEXT: Final = _item(item_types.APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME.encode())
# PS3.7 D.3.3.2.
_IMPLEMENTATION: Final = _item(item_types.IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode()) + _item(
    item_types.IMPLEMENTATION_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode()
)
