"""Character sets (PS3.3 C.12.1.1.2): identifiers decoded by theirs, answers encoded in one that holds them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from pydicom.charset import STAND_ALONE_ENCODINGS, decode_bytes, encode_string, python_encoding

UTF_8_TERM: Final = "ISO_IR 192"
# PS3.5 6.1.2.5.3: where the initial character set holds again.
_DELIMITERS: Final = frozenset(b"\r\n\t\f\\")
_NAME_DELIMITERS: Final = frozenset(b"\r\n\t\f\\^=")
# Texts are encoded by pieces between these: after a delimiter nothing of the escape sequences before it counts.
_PIECES: Final = re.compile(r"([\r\n\t\f\\^=])")
# pydicom's name for the default repertoire (ISO 646), which it takes for Latin-1.
_DEFAULT_CODEC: Final = "iso8859"
# ISO_IR 13 has half-width katakana only; the codec that stands for it, Shift JIS, has more.
_KATAKANA: Final = ("ISO_IR 13",)
# What pydicom encodes itself, by a codec of Python's with the same characters.
_PYTHON_CODECS: Final = {"iso_ir_58": "gb2312"}
# Blanks, hyphens and underscores in the wrong places are frequent.
_MISSPELT = re.compile(r"^ISO[ _-]?(2022[ _-]?)?IR[ _-]?", re.ASCII)

# Orthanc's names (Enumerations.cpp, Orthanc Book) and the defined terms that it writes for them.
ORTHANC_ENCODINGS: Final[dict[str, str]] = {
    "Ascii": "ISO_IR 6",
    "Utf8": "ISO_IR 192",
    "Latin1": "ISO_IR 100",
    "Latin2": "ISO_IR 101",
    "Latin3": "ISO_IR 109",
    "Latin4": "ISO_IR 110",
    "Latin5": "ISO_IR 148",
    "Cyrillic": "ISO_IR 144",
    "Windows1251": "ISO_IR 144",
    "Arabic": "ISO_IR 127",
    "Greek": "ISO_IR 126",
    "Hebrew": "ISO_IR 138",
    "Thai": "ISO_IR 166",
    "Japanese": "ISO_IR 13",
    "JapaneseKanji": "ISO 2022 IR 87",
    "Korean": "ISO 2022 IR 149",
    "SimplifiedChinese": "ISO 2022 IR 58",
    "Chinese": "GB18030",
}


@dataclass(frozen=True)
class CharacterSet:
    """The values of a Specific Character Set (0008,0005)."""

    terms: tuple[str, ...]

    @cached_property
    def has_ascii(self) -> bool:
        """Whether what is ASCII, and no escape sequence, is encoded as such."""
        return len(self.terms) == 1 or not self.terms[0]

    def decode(self, data: bytes, vr: str) -> str:
        """Decode; bytes that are not of the set become replacement characters."""
        codecs = _codecs(self.terms)
        if codecs is None:
            return data.decode("utf-8", "replace")
        if len(codecs) == 1:
            return data.decode(_plain(codecs[0]), "replace")
        return str(decode_bytes(data, codecs, set(_NAME_DELIMITERS if vr == "PN" else _DELIMITERS)))

    def encode(self, text: str) -> bytes | None:
        """Encode; None if the set cannot hold the text."""
        # What most text is: the same in a single set, and where ASCII is the first of several.
        if self.has_ascii and text.isascii() and "\x1b" not in text:
            return text.encode("ascii")
        codecs = _codecs(self.terms)
        try:
            if codecs is None or len(codecs) == 1:
                data = text.encode(_plain(codecs[0]) if codecs else "utf-8")
                return None if self.terms == _KATAKANA and len(data) != len(text) else data
            if codecs[0] == _DEFAULT_CODEC and any("\x80" <= character <= "\xff" for character in text):
                return None
            if not all(_can_encode(character, codecs) for character in set(text)):
                return None  # pydicom would replace it
            data = b"".join(encode_string(piece, codecs) for piece in _PIECES.split(text))
        except (UnicodeError, ValueError):
            return None
        return data if self.decode(data, "PN") == text else None

    def encode_lossy(self, text: str, vr: str) -> bytes:
        """Encode with a question mark for each character that the set cannot hold.

        Of a person name, ideographic and phonetic groups that it cannot hold are left out if a group before them
        can be held (PS3.5 6.2.1.1): they say the same again.
        """
        if vr == "PN" and "=" in text:
            return b"\\".join(self._name(name) for name in text.split("\\"))
        whole = self.encode(text)
        if whole is not None:
            return whole
        return b"".join(data if (data := self.encode(character)) is not None else b"?" for character in text)

    def _name(self, name: str) -> bytes:
        groups = name.split("=")
        held = [self.encode(group) if group else b"" for group in groups]
        if not any(held):
            return b"=".join(self.encode_lossy(group, "LO") for group in groups)
        return b"=".join(group or b"" for group in held).rstrip(b"=")


UTF_8: Final = CharacterSet((UTF_8_TERM,))
# The default repertoire, ISO 646. It has no defined term: where it suffices there is no Specific Character Set.
ASCII: Final = CharacterSet(("",))
# Those with one byte for each character, the most frequent first.
SINGLE_BYTE: Final = tuple(
    CharacterSet((f"ISO_IR {number}",)) for number in (100, 101, 144, 126, 148, 138, 127, 109, 110, 166)
)


def _plain(codec: str) -> str:
    return "ascii" if codec == _DEFAULT_CODEC else codec


def _can_encode(character: str, codecs: list[str]) -> bool:
    for codec in codecs:
        with contextlib.suppress(UnicodeError):
            character.encode(_PYTHON_CODECS.get(codec, codec))
            return True
    return False


@lru_cache(maxsize=64)
def _codecs(terms: tuple[str, ...]) -> list[str] | None:
    """Python's codecs for defined terms; None where there is one that PS3.3 does not know."""
    names = [_MISSPELT.sub(_spell, term) for term in terms]
    if any(name not in python_encoding for name in names):
        return None
    if names[0] in STAND_ALONE_ENCODINGS:  # PS3.3 C.12.1.1.2: without code extensions
        return [str(python_encoding[names[0]])]
    return [str(python_encoding[name]) for name in names if name not in STAND_ALONE_ENCODINGS]


def _spell(match: re.Match[str]) -> str:
    return "ISO 2022 IR " if match[1] else "ISO_IR "


def declared(value: str, default: CharacterSet) -> CharacterSet:
    """What Specific Character Set (0008,0005) with this value declares; `default` where it is empty."""
    terms = tuple(term.strip(" \0") for term in value.split("\\"))
    return CharacterSet(terms) if any(terms) else default


def requested(value: str) -> CharacterSet | None:
    """The character set that a peer's Specific Character Set names, by its proper terms; None for none or unknown."""
    terms = tuple(_MISSPELT.sub(_spell, term.strip(" \0").upper()) for term in value.split("\\"))
    if not any(terms) or any(term not in python_encoding for term in terms):
        return None
    return CharacterSet(terms)


def of_orthanc(name: str) -> CharacterSet:
    """The character set of a `DefaultEncoding` of Orthanc. Multi-byte ones stand behind ASCII, as PS3.3 wants it."""
    term = ORTHANC_ENCODINGS[name]
    return CharacterSet(("", term) if term.startswith("ISO 2022") else (term,))
