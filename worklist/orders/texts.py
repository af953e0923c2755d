"""HL7 text as values of DICOM's value representations: nothing forged, nothing too long (PS3.5 6.2)."""

import hashlib
import re
from typing import Final

# PS3.5 table 6.2-1, in characters.
MAXIMUM_CHARACTERS: Final[dict[str, int]] = {
    "AE": 16,
    "CS": 16,
    "SH": 16,
    "DS": 16,
    "IS": 12,
    "LO": 64,
    "PN": 64,
    "UI": 64,
    "ST": 1024,
    "LT": 10240,
    "UC": 65536,
    "UT": 65536,
}
_DIGEST_CHARACTERS: Final = 8
_WITH_LINES: Final = frozenset(("ST", "LT", "UT"))
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_CONTROL_BUT_LINES: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")
_LINE_ENDS: Final = re.compile("\r\n?|\n")
# A backslash would begin another value; in a name ^ and = would begin another component.
_FORGING: Final = {"PN": re.compile(r"[\\^=]")}
_BACKSLASH: Final = re.compile(r"\\")
_NOT_CODE: Final = re.compile("[^A-Z0-9_ ]")
_NOT_ASCII: Final = re.compile("[^ -~]")
_NUMBER: Final = re.compile(r"[+-]?(\d{1,15}([.,]\d{0,15})?|[.,]\d{1,15})", re.ASCII)
_UID: Final = re.compile(r"\d+(\.\d+)+", re.ASCII)


def fit(vr: str, text: str) -> str:
    """One value of a VR of text: what it cannot hold is replaced by a space, what is too long is cut."""
    if vr in _WITH_LINES:
        text = _LINE_ENDS.sub("\r\n", _CONTROL_BUT_LINES.sub(" ", text))
        return text[: MAXIMUM_CHARACTERS[vr]].rstrip()
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    text = _FORGING.get(vr, _BACKSLASH).sub(" ", text).strip()
    if vr == "CS":
        text = _NOT_CODE.sub(" ", text.upper())
    elif vr == "AE":
        text = _NOT_ASCII.sub(" ", text)
    return text[: MAXIMUM_CHARACTERS.get(vr, 64)].strip()


def decimal_number(text: str) -> float | None:
    """A number as HL7's NM has it, a decimal comma and a unit behind it forgiven; None if it is none."""
    match = _NUMBER.match(text.strip())
    return float(match[0].replace(",", ".")) if match else None


def is_uid(text: str) -> bool:
    """Whether a text can be a UID (PS3.5 9.1). Components with leading zeros, which some make, are forgiven."""
    return len(text) <= MAXIMUM_CHARACTERS["UI"] and _UID.fullmatch(text) is not None


def short(text: str) -> str:
    """A text as SH. One that is too long ends with a digest: two that begin alike must not become the same."""
    maximum = MAXIMUM_CHARACTERS["SH"]
    if len(text) <= maximum:
        return text
    digest = hashlib.blake2s(text.encode(), digest_size=_DIGEST_CHARACTERS // 2).hexdigest()
    return f"{text[: maximum - _DIGEST_CHARACTERS - 1]}-{digest}"
