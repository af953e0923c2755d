"""Escape sequences of HL7 text (HL7 2.5.1, 2.7), undone whatever was sent."""

import re
from functools import cache
from typing import Final

_FORMATTING: Final = re.compile(r"\.(?:br|sp|in|ti|sk|ce|fi|nf)[ +-]?\d{0,3}")
# Highlighting, and switches of the character set, which decoding has followed already.
_WITHOUT_TEXT: Final = re.compile(r"[HN]|[CM][0-9A-Fa-f]{4,6}|Z.*", re.DOTALL)
_LINE_BREAKS: Final = (".br", ".sp", ".ce")
LINE_BREAK: Final = "\r\n"


class Escapes:
    """The escape sequences of one message: its delimiters, and the codec that \\X..\\ is of."""

    def __init__(self, field_separator: str, encoding_characters: str, codec: str) -> None:
        component, repetition, self._escape, subcomponent = tuple(encoding_characters)
        self._codec = codec
        self._delimiters = {
            "F": field_separator,
            "S": component,
            "R": repetition,
            "E": self._escape,
            "T": subcomponent,
        }
        self._pattern = _pattern(self._escape)

    def undo(self, text: str) -> str:
        """The text that was meant. What is no escape sequence, and one that does not end, stands for itself."""
        if self._escape not in text:
            return text
        return self._pattern.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        # One character of several bytes may stand in one sequence or in several.
        if match["bytes"] is not None:
            digits = match["bytes"].replace(self._escape, "").replace("X", "")
            return bytes.fromhex(digits).decode(self._codec, "replace")
        sequence = match["other"]
        if sequence in self._delimiters:
            return self._delimiters[sequence]
        if _FORMATTING.fullmatch(sequence):
            return LINE_BREAK if sequence.startswith(_LINE_BREAKS) else ""
        return "" if _WITHOUT_TEXT.fullmatch(sequence) else match[0]


@cache
def _pattern(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(f"(?P<bytes>(?:{e}X(?:[0-9A-Fa-f]{{2}})+{e})+)|{e}(?P<other>[^{e}]*){e}")
