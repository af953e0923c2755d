"""From the bytes of a frame to a message: decoded once, as a whole, by MSH-18."""

import re
from dataclasses import dataclass
from typing import Final

import hl7

from gateway import hl7_character_sets
from worklist.hl7.errors import ErrorCode, MessageError, NotSupported
from worklist.hl7.framing import START_BLOCK
from worklist.hl7.header import Header, read_header

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SEGMENT_ENDS: Final = re.compile("[\r\n]+")
_SEGMENT_END_BYTES: Final = re.compile(b"[\r\n]")
# What no text of HL7 has (HL7 2.5.1, 2.5.3); SQL cannot even store NUL. Segments are split before.
_CONTROL_CHARACTERS: Final = re.compile("[\0-\x08\x0b-\x1f\x7f]")
_SECOND_HEADER: Final = "\rMSH"
# Batches (HL7 2.5.1, 2.10.3) are files' business.
_BATCHES: Final = (b"FHS", b"BHS")

# The parser makes an object of 600 bytes and more of each: a megabyte of delimiters would become a gigabyte.
MAXIMUM_PARTS: Final = 20_000

CHARACTER_SET: Final = 18
# As hl7_character_sets names ISO 8859-1.
_LATIN_1: Final = "cp1252"
_UTF_8: Final = "utf-8"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message as text; see Received for what has become of it."""

    header: Header
    text: str


def look_at_header(body: bytes, default_character_set: str) -> Header | None:
    """The header as far as it can be read, whatever becomes of the rest."""
    segment = _SEGMENT_END_BYTES.split(_strip(body), maxsplit=1)[0]
    # Delimiters and MSH-18 are ASCII.
    header = read_header(segment.decode("latin-1"))
    codec = _codec(body, header, default_character_set) if header is not None else None
    return read_header(segment.decode(codec, "replace")) or header if codec is not None else header


def codec_of(header: Header, default_character_set: str) -> str | None:
    """Python's codec for the message; None if MSH-18 declares what is not known."""
    names = [name for name in _declared(header) if not hl7_character_sets.is_undeclared(name)]
    return hl7_character_sets.find_codec(names or [default_character_set])


def _codec(body: bytes, header: Header, default_character_set: str) -> str | None:
    """The same, of a message that is there: many senders of UTF-8 say nothing of it.

    No name of ISO 8859-1 with more than ASCII is valid UTF-8: each such letter would have to be followed by a sign.
    """
    codec = codec_of(header, default_character_set)
    if codec != _LATIN_1 or not all(map(hl7_character_sets.is_undeclared, _declared(header))):
        return codec
    try:
        hl7_character_sets.decode(body, _UTF_8)
    except UnicodeDecodeError:
        return codec
    return _UTF_8


def _declared(header: Header) -> list[str]:
    return [name.strip() for name in header.field(CHARACTER_SET).split(header.encoding_characters[1])]


def decode(body: bytes, default_character_set: str) -> Decoded:
    """Raises MessageError, and NotSupported for batches."""
    body = _strip(body)
    declared = read_header(body.decode("latin-1"))
    if declared is None:
        if body.startswith(_BATCHES):
            raise NotSupported(ErrorCode.UNSUPPORTED_MESSAGE_TYPE, "batches are not supported: send single messages")
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "MSH^1", "the message does not begin with MSH")
    codec = _codec(body, declared, default_character_set)
    if codec is None and not body.isascii():
        raise MessageError(
            ErrorCode.TABLE_VALUE_NOT_FOUND,
            f"MSH^1^{CHARACTER_SET}",
            f"character set {declared.field(CHARACTER_SET)[:40]} is not known",
        )
    try:
        text = hl7_character_sets.decode(body, codec or "ascii")
    except UnicodeDecodeError as error:
        # The codec may have taken bytes out: where it stopped is near enough for the segment and field.
        name = declared.field(CHARACTER_SET) or default_character_set
        raise MessageError(
            ErrorCode.DATA_TYPE_ERROR,
            _locate(body[: error.start].decode("latin-1"), declared.field_separator),
            f"these bytes are not {name[:40]}",
        ) from error
    text = "".join(f"{segment}\r" for segment in map(_clean, _SEGMENT_ENDS.split(text)) if segment)
    header = read_header(text)
    if header is None:  # MSH in another shape than before: escape sequences of ISO 2022 in it
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "MSH^1", "the message does not begin with MSH")
    return Decoded(header, text)


def parse(decoded: Decoded) -> hl7.Message:
    """Parse. Raises MessageError."""
    header, text = decoded.header, decoded.text
    # The parser takes whatever stands there for delimiters, and asserts that it is well.
    declared = text[4:].split(header.field_separator, 1)[0]
    if not header.encoding_characters.startswith(declared[:4]):
        raise MessageError(ErrorCode.DATA_TYPE_ERROR, "MSH^1^2", "these cannot be delimiters")
    if len(declared) < 4:  # those that are left out have no say: the parser's own might be the same as others
        text = text[:4] + header.encoding_characters + text[4 + len(declared) :]
    if not header.message_type:
        raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, "MSH^1^9", "the message has no type")
    if _SECOND_HEADER in text:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "MSH^2", "two messages in one frame: send one in each")
    delimiters = header.field_separator + header.encoding_characters[:2] + header.encoding_characters[3]
    parts = sum(map(text.count, delimiters + "\r"))
    if parts > MAXIMUM_PARTS:
        raise MessageError(
            ErrorCode.SEGMENT_SEQUENCE_ERROR, "", f"more than {MAXIMUM_PARTS} fields, repetitions and components"
        )
    try:
        return hl7.parse(text)
    except (hl7.HL7Exception, ValueError, LookupError) as error:
        reason = str(error)[:80]
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "", f"cannot be parsed: {reason}") from error


def readable(data: bytes, default_character_set: str) -> str:
    """A message, or frames of acknowledgements, for a person: a line for each segment, whatever the bytes are."""
    header = look_at_header(data.lstrip(START_BLOCK), default_character_set)
    codec = _codec(data, header or Header(), default_character_set) or "latin-1"
    text = data.decode(codec, "replace").replace("\x1b", "")
    lines = (_CONTROL_CHARACTERS.sub("", line).rstrip() for line in _SEGMENT_ENDS.split(text))
    return "\n".join(line for line in lines if line)


def _strip(body: bytes) -> bytes:
    return body.removeprefix(_BYTE_ORDER_MARK).strip(b" \t\r\n\0")


def _clean(segment: str) -> str:
    return _CONTROL_CHARACTERS.sub("", segment).strip(" \t")


def _locate(before: str, separator: str) -> str:
    """Where the text `before` ends, as ERL: segment, which of its name, field."""
    segments = [segment for segment in _SEGMENT_ENDS.split(before) if segment] or [""]
    last = segments[-1]
    name = last[:3]
    number = sum(segment[:3] == name for segment in segments)
    field = last.count(separator) + (name == "MSH")
    return f"{name}^{number}^{field}"
