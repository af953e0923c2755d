"""The items and sub-items of A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 9.3.2, 9.3.3, PS3.7 annex D.3.3), one table."""

import struct
from typing import Final

# Of each: type, reserved, length of what follows.
HEADER = struct.Struct(">BxH")

APPLICATION_CONTEXT: Final = 0x10
PRESENTATION_CONTEXT: Final = 0x20
PRESENTATION_CONTEXT_RESULT: Final = 0x21
ABSTRACT_SYNTAX: Final = 0x30
TRANSFER_SYNTAX: Final = 0x40
USER_INFORMATION: Final = 0x50
MAXIMUM_LENGTH_RECEIVED: Final = 0x51
IMPLEMENTATION_CLASS_UID: Final = 0x52
ROLE_SELECTION: Final = 0x54
IMPLEMENTATION_VERSION_NAME: Final = 0x55
SOP_CLASS_EXTENDED: Final = 0x56
USER_IDENTITY: Final = 0x58
USER_IDENTITY_RESPONSE: Final = 0x59
