"""How the headers of elements are encoded, and which tags hold sequences."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom._private_dict import private_dictionaries

# PS3.5 table 7.1-2
VRS_WITH_16_BIT_LENGTH: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# PS3.5 table 7.1-1, and the names by which DCMTK itself calls three ambiguous VRs
VRS_WITH_32_BIT_LENGTH: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV ox px lt".split())
VRS_OF_SEQUENCES: Final = frozenset({b"SQ", b"UN"})
PIXEL_DATA_VRS: Final = frozenset({b"OB", b"OW", b"OX"})  # OX: a known fault of senders, OW for DCMTK


class Codec(NamedTuple):
    """How headers are encoded."""

    implicit_vr: bool
    element: Callable[[bytes, int], tuple[Any, ...]]  # explicit: group, element, VR, 16-bit length
    item: Callable[[bytes, int], tuple[Any, ...]]  # group, element, 32-bit length
    length: Callable[[bytes, int], tuple[Any, ...]]  # 32-bit length


def _codec(byte_order: str, *, implicit_vr: bool) -> Codec:
    item = struct.Struct(byte_order + "HHI").unpack_from
    explicit = struct.Struct(byte_order + "HH2sH").unpack_from
    return Codec(implicit_vr, item if implicit_vr else explicit, item, struct.Struct(byte_order + "I").unpack_from)


IMPLICIT_VR_LITTLE_ENDIAN: Final = _codec("<", implicit_vr=True)
EXPLICIT_VR_LITTLE_ENDIAN: Final = _codec("<", implicit_vr=False)
EXPLICIT_VR_BIG_ENDIAN: Final = _codec(">", implicit_vr=False)


def _is_sequence() -> dict[int, bool]:
    known = {tag: entry[0] == "SQ" for tag, entry in DicomDictionary.items()}
    # PS3.6 (50xx,2600), Curve Referenced Overlay Sequence: the one repeating group with SQ, retired
    known.update({group << 16 | 0x2600: True for group in range(0x5000, 0x5100, 2)})
    known[0x0006_0001] = True  # Current Frame Functional Groups Sequence: DCMTK 3.6.7 has it, pydicom not
    return known


def _private_sequences() -> frozenset[int]:
    found = {
        int(mask[:4], 16) << 16 | int(mask[6:], 16)
        for dictionary in private_dictionaries.values()
        for mask, entry in dictionary.items()
        if entry[0] == "SQ" and "x" not in mask[:4]
    }
    # what DCMTK 3.6.7 knows besides: PAPYRUS 3.0, DCMTK_ANONYMIZER, SPI-P-Private_ICS Release 1
    found.update(group << 16 | 0xC0 for group in range(0x6001, 0x6100, 2))
    found.update({0x0009_0030, 0x0029_0044})
    return frozenset(found)


IS_SEQUENCE: Final = _is_sequence()
"""For each tag of PS3.6 (group << 16 | element) whether its VR is SQ; other tags are not in it."""

PRIVATE_SEQUENCES: Final = _private_sequences()
"""Private tags without their block number (element & 0xFF) that any private creator uses for a sequence."""
