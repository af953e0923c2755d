"""Transfer syntaxes that Orthanc 1.10.1 accepts, in its order of preference, and which of them are accepted.

Source: PS3.6 table A-1; the order is that of the built-in SCP, which takes the first of its own list that
the peer proposes (uncompressed first).
"""

import fnmatch
from collections.abc import Mapping
from typing import Any, Final

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)

_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (*range(50, 67), 70))
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93))
_JPIP = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95")
_MPEG2 = ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101")
_MPEG4 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (102, 103, 104, 105, 106))
_H265 = ("1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108")
_RLE = ("1.2.840.10008.1.2.5",)

PREFERENCE: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    *_JPEG,
    *_JPEG_LS,
    *_JPEG_2000,
    *_JPIP,
    *_MPEG2,
    *_MPEG4,
    *_H265,
    *_RLE,
)

# What each of Orthanc's booleans takes away (asked of Orthanc 1.10.1, whose "JpegLossless" is JPEG-LS only).
BOOLEAN_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "DeflatedTransferSyntaxAccepted": (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,),
    "JpegTransferSyntaxAccepted": _JPEG,
    "Jpeg2000TransferSyntaxAccepted": _JPEG_2000,
    "JpegLosslessTransferSyntaxAccepted": _JPEG_LS,
    "JpipTransferSyntaxAccepted": _JPIP,
    "Mpeg2TransferSyntaxAccepted": _MPEG2,
    "RleTransferSyntaxAccepted": _RLE,
    "Mpeg4TransferSyntaxAccepted": _MPEG4,
    "H265TransferSyntaxAccepted": _H265,
}


def accepted(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the transfer syntax UIDs that `options` (Orthanc's configuration) accept, most preferred first.

    `AcceptedTransferSyntaxes` is a list of UIDs with the wildcards * and ?; the booleans then add or take
    away their group. Values were validated by gateway.options.orthanc.
    """
    patterns = options.get("AcceptedTransferSyntaxes")
    if patterns is None:
        patterns = ["1.2.840.10008.1.*"]
    wildcards = [pattern.replace("[", "[[]") for pattern in patterns]  # Orthanc knows * and ? only
    chosen = {uid for uid in PREFERENCE if any(fnmatch.fnmatchcase(uid, wildcard) for wildcard in wildcards)}
    for option, group in BOOLEAN_OPTIONS.items():
        if options.get(option) is True:
            chosen.update(group)
        elif options.get(option) is False:
            chosen.difference_update(group)
    return tuple(uid for uid in PREFERENCE if uid in chosen)
