"""HL7 text as bytes: escaped, and in the character set of who reads it (HL7 2.5.1, 2.5.3, 2.7 and 2.15.9.18)."""

import re
from collections.abc import Iterable
from typing import Final

FIELD: Final = b"|"
COMPONENT: Final = b"^"
REPETITION: Final = b"~"
SUBCOMPONENT: Final = b"&"
SEGMENT_END: Final = b"\r"
ENCODING_CHARACTERS: Final = COMPONENT + REPETITION + b"\\" + SUBCOMPONENT

_ESCAPES: Final = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"})
_LINE_ENDS: Final = re.compile("\r\n?|\n")
_LINE_BREAK: Final = "\\.br\\"
_CONTROL_CHARACTERS: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
# What stands for a character that the character set does not have.
_REPLACEMENT: Final = "?"
# HL7 2.5.1, 2.5.3: it would delete what the receiver has.
_NULL: Final = '""'


class Writer:
    """Writes with the usual delimiters, in one character set."""

    def __init__(self, codec: str) -> None:
        self._codec = codec

    def text(self, text: str) -> bytes:
        """A text that is nothing but that: no delimiter, no end of a segment."""
        text = text.strip()
        if text == _NULL:
            return b""
        lines = [_CONTROL_CHARACTERS.sub(" ", line).translate(_ESCAPES) for line in _LINE_ENDS.split(text)]
        escaped = _LINE_BREAK.join(lines).strip()
        if not escaped.isascii():
            escaped = "".join(map(self._unforged, escaped))
        # Encoded on its own: escape sequences of ISO 2022 are undone before the next delimiter.
        return escaped.encode(self._codec, "replace")

    def components(self, *parts: str | bytes) -> bytes:
        """Components of a field; text is escaped, bytes are sub-components that are written already."""
        return self._joined(COMPONENT, parts)

    def subcomponents(self, *parts: str | bytes) -> bytes:
        """Sub-components of a component."""
        return self._joined(SUBCOMPONENT, parts)

    def repetitions(self, values: Iterable[bytes]) -> bytes:
        """Repetitions of a field, those that say something."""
        return REPETITION.join(filter(None, values))

    def designator(self, text: str) -> bytes:
        """An HD as it stands in the configuration, NAMESPACE or NAMESPACE^UNIVERSAL ID^TYPE."""
        return self.components(*text.split("^"))

    def segment(self, name: str, fields: dict[int, str | bytes]) -> bytes:
        """A segment with these fields, by their numbers."""
        values = [fields.get(number, b"") for number in range(1, max(fields) + 1)]
        return self._joined(FIELD, [name, *values]) + SEGMENT_END

    def _joined(self, delimiter: bytes, parts: Iterable[str | bytes]) -> bytes:
        """Without delimiters behind the last part: by parts, for bytes of delimiters are bytes of characters too."""
        written = [self.text(part) if isinstance(part, str) else part for part in parts]
        while written and not written[-1]:
            written.pop()
        return delimiter.join(written)

    def _unforged(self, character: str) -> str:
        """Shift JIS has the yen sign at the place of the backslash, and the overline at that of the tilde."""
        if character.isascii():
            return character
        encoded = character.encode(self._codec, "replace")
        return _REPLACEMENT if len(encoded) == 1 and encoded.isascii() else character
