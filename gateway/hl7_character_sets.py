"""The character sets of HL7 v2 (table 0211, MSH-18), and Python's codecs for them."""

import re
from typing import Final

# Names as `_key` makes them. What sites write besides the table's own codes is here too: DICOM's defined terms, the
# names of IANA and those of Windows.
_CODECS: Final[dict[str, str]] = {
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "ISOIR192": "utf-8",
    # Whoever says ISO 8859-1 and sends 80 to 9F means Windows: in ISO 8859-1 these are control characters.
    "88591": "cp1252",
    "ISOIR100": "cp1252",
    "LATIN1": "cp1252",
    **{f"8859{part}": f"iso8859-{part}" for part in range(2, 17) if part != 12},
    "ISOIR101": "iso8859-2",
    "ISOIR109": "iso8859-3",
    "ISOIR110": "iso8859-4",
    "ISOIR144": "iso8859-5",
    "ISOIR127": "iso8859-6",
    "ISOIR126": "iso8859-7",
    "ISOIR138": "iso8859-8",
    "ISOIR148": "iso8859-9",
    "ISOIR166": "tis-620",
    **{f"WINDOWS{page}": f"cp{page}" for page in range(1250, 1259)},
    **{f"CP{page}": f"cp{page}" for page in range(1250, 1259)},
    "WINDOWS874": "cp874",
    # Escape sequences of ISO 2022 stand in the text itself; the codec knows those of all three.
    "ISOIR87": "iso2022_jp_ext",
    "ISOIR159": "iso2022_jp_ext",
    "ISO2022JP": "iso2022_jp_ext",
    # One byte for each half-width katakana: Shift JIS has them at the same places.
    "ISOIR13": "shift_jis",
    "ISOIR14": "shift_jis",
    "SHIFTJIS": "cp932",
    "EUCJP": "euc_jp",
    "KSX1001": "cp949",
    "ISOIR149": "cp949",
    "EUCKR": "cp949",
    "GB18030": "gb18030",
    "GB180302000": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "BIG5": "cp950",
}

# Senders that declare ASCII send everything else too: what is meant is what the site has as its default.
_UNDECLARED: Final = frozenset({"", "ASCII", "USASCII", "ISOIR6"})

_ISO_2022: Final = "iso2022_jp_ext"
# ISO/IEC 2022: designates KS X 1001 as G1, which is where EUC-KR has it anyway.
_KOREAN_DESIGNATION: Final = b"\x1b$)C"
_NO_PART_OF_A_NAME: Final = re.compile("[ _/.-]")


def _key(name: str) -> str:
    """Blanks and hyphens are anybody's guess: `ISO IR87`, `ISO_IR 87`, `UTF-8`, `utf8`, `ISO-8859-15`, `8859/15`."""
    key = _NO_PART_OF_A_NAME.sub("", name.upper())
    return key.removeprefix("ISO") if key.startswith("ISO8859") else key


def is_undeclared(name: str) -> bool:
    """Whether MSH-18 with this repetition leaves the choice to the receiver."""
    return _key(name) in _UNDECLARED


def find_codec(names: list[str]) -> str | None:
    """Python's codec for the repetitions of MSH-18 that declare something; None if one is not known.

    The first is the character set, the others are reached by the escape sequences of ISO 2022 (HL7 2.5.1, 2.15.9.18).
    """
    codecs = [_CODECS.get(_key(name)) for name in names]
    if not codecs or None in codecs:
        return None
    return _ISO_2022 if _ISO_2022 in codecs else codecs[0]


def decode(data: bytes, codec: str) -> str:
    """Decode all of a message. Raises UnicodeDecodeError."""
    if codec == "cp949":
        data = data.replace(_KOREAN_DESIGNATION, b"")
    return data.decode(codec)


def encoder_of(name: str) -> str | None:
    """Python's codec for messages that declare `name` in MSH-18, maybe with repetitions (`~`); None if it is not known.

    What is read as Windows-1252 for the sake of its senders is written as ISO 8859-1, unless it is called Windows.
    """
    names = name.split("~")
    declared = [each for each in names if not is_undeclared(each)]
    if not declared and "" in names:
        return None
    codec = find_codec(declared) if declared else "ascii"
    return "iso8859-1" if codec == "cp1252" and "1252" not in name else codec
