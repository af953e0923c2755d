"""Walks through the headers of a data set's elements, items and fragments, without recursion.

The rules are those of PS3.5 section 7. Where senders are known to bend them, what counts is what DCMTK
3.6.7, Orthanc's parser, makes of it: what it reads must pass here, and where it sees a sequence this must
look inside. Comments name DCMTK where it decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, NoReturn

from gateway.dicom.data_set_encoding import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    IS_SEQUENCE,
    PIXEL_DATA_VRS,
    PRIVATE_SEQUENCES,
    VRS_OF_SEQUENCES,
    VRS_WITH_16_BIT_LENGTH,
    VRS_WITH_32_BIT_LENGTH,
    Codec,
)
from gateway.dicom.data_set_window import HEADER_BYTES, StructureError, UnskippableError, Window

LAST_WANTED_GROUP: Final = 0x0020
MAXIMUM_VALUE_BYTES: Final = 1024

_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = 0x7FE0_0010
_DELIMITER_GROUP: Final = 0xFFFE
_ITEM: Final = 0xE000
_ITEM_DELIMITATION: Final = 0xE00D
_SEQUENCE_DELIMITATION: Final = 0xE0DD
_DELIMITERS: Final = frozenset({_ITEM, _ITEM_DELIMITATION, _SEQUENCE_DELIMITATION})
_ITEM_TAG_BYTES: Final = b"\xfe\xff\x00\xe0"

_ELEMENTS: Final = 0  # the data set or an item
_ITEMS: Final = 1  # a sequence
_FRAGMENTS: Final = 2  # encapsulated pixel data (PS3.5 A.4)


class _Container(NamedTuple):
    """What holds the position: the data set, a sequence, an item."""

    kind: int
    tag: int  # of the sequence that it is or belongs to
    end: int  # of undefined length: the end of what holds it
    delimited: bool  # undefined length: a delimiter ends it
    codec: Codec


class _Attempt(NamedTuple):
    """A value taken for a sequence, on trust of its first bytes."""

    depth: int  # how many containers were open
    end: int
    tag: int
    known_as_sequence: bool


def _name(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _exceeds(tag: int) -> StructureError:
    return StructureError(f"value of {_name(tag)} exceeds its container", tag)


class ElementReader:
    """The way through one data set. Reading ends with `run`; an object reads once."""

    def __init__(
        self, source: Window, codec: Codec, wanted: Iterable[int], maximum_depth: int, maximum_elements: int
    ) -> None:
        """`wanted`: tags of the top level, up to group 0020, whose values of up to 1024 bytes are kept."""
        self._source = source
        self._known_end = source.end
        self._maximum_depth = maximum_depth
        self._maximum_elements = maximum_elements
        self._steps = iter(range(maximum_elements))
        self._wanted = set(wanted)
        self._values: dict[int, bytes] = {}
        self._container = _Container(_ELEMENTS, 0, source.end, False, codec)
        self._outer: list[_Container] = []
        self._attempts: list[_Attempt] = []
        self._position = 0
        self._window = b""
        self._window_start = 0
        self._last_start = 0  # the last position in the window from which a whole header can be unpacked
        self._finished = False

    def run(self) -> dict[int, bytes]:
        """The wanted values by tag. Of a tag that occurs twice the first counts, as for DCMTK."""
        self._move_window(0)
        if not self._container.end:
            raise StructureError("empty data set")
        while not self._finished:
            try:
                self._continue()
            except UnskippableError:
                raise
            except StructureError as error:
                self._give_up_attempt(error)
        return self._values

    def _continue(self) -> None:
        while not self._finished:
            kind = self._container.kind
            if kind == _ITEMS:
                self._item()
            elif kind == _FRAGMENTS:
                self._fragments()
            elif self._container.codec.implicit_vr:
                self._implicit_vr_elements()
            else:
                self._explicit_vr_elements()

    def _explicit_vr_elements(self) -> None:
        """Elements up to the next that opens or closes a container (PS3.5 7.1.2)."""
        codec = self._container.codec
        unpack = codec.element
        end = self._container.end
        window, start, last = self._window, self._window_start, self._last_start
        outermost = not self._outer
        wanted = self._wanted
        position = self._position
        for _ in self._steps:
            if position > last:
                window, start, last = self._move_window(position)
                end = self._container.end
            if position >= end:
                self._position = position
                self._close_at_end()
                return
            group, element, vr, length = unpack(window, position - start)
            if group == _DELIMITER_GROUP and element in _DELIMITERS:
                self._position = position
                self._delimiter(element)
                return
            if vr in VRS_WITH_16_BIT_LENGTH:
                value = position + 8
            elif vr in VRS_WITH_32_BIT_LENGTH or (vr.isalpha() and vr.isupper()):
                # DCMTK takes any two capitals for a VR yet to come (PS3.5 6.2: these have 32 bits)
                (length,) = codec.length(window, position - start + 8)
                value = position + 12
                if length == _UNDEFINED_LENGTH:
                    self._open_undefined(group << 16 | element, vr, value)
                    return
                if vr in VRS_OF_SEQUENCES and length:
                    if value + length > end:
                        raise _exceeds(group << 16 | element)
                    if vr == b"SQ":
                        self._open_sequence(group << 16 | element, value, value + length, codec)
                        return
                    if self._looks_like_sequence(value, length):
                        # PS3.5 6.2.2: what UN holds is implicit VR little endian
                        self._attempt_sequence(group << 16 | element, value, value + length, False)
                        return
                    window, start, last = self._window, self._window_start, self._last_start
                    end = self._container.end
            else:  # neither a VR nor like one: DCMTK reads 16 bits
                value = position + 8
            following = value + length
            if following > end:
                raise _exceeds(group << 16 | element)
            if outermost and group <= LAST_WANTED_GROUP and (group << 16 | element) in wanted:
                self._capture(group << 16 | element, value, length)
                window, start, last = self._window, self._window_start, self._last_start
                end = self._container.end
            position = following
        self._too_many()

    def _implicit_vr_elements(self) -> None:
        """Elements up to the next that opens or closes a container (PS3.5 7.1.3)."""
        codec = self._container.codec
        unpack = codec.element
        end = self._container.end
        window, start, last = self._window, self._window_start, self._last_start
        outermost = not self._outer
        wanted = self._wanted
        is_sequence = IS_SEQUENCE.get
        position = self._position
        for _ in self._steps:
            if position > last:
                window, start, last = self._move_window(position)
                end = self._container.end
            if position >= end:
                self._position = position
                self._close_at_end()
                return
            group, element, length = unpack(window, position - start)
            if group == _DELIMITER_GROUP and element in _DELIMITERS:
                self._position = position
                self._delimiter(element)
                return
            tag = group << 16 | element
            value = position + 8
            sequence = is_sequence(tag)
            if length == _UNDEFINED_LENGTH:
                # PS3.5 7.1.3: without a VR the dictionary says what it is; what it does not know is UN
                self._open_undefined(tag, b"OW" if sequence is False else b"SQ", value)
                return
            following = value + length
            if following > end:
                raise _exceeds(tag)
            if sequence and length:
                self._open_sequence(tag, value, following, codec)
                return
            if sequence is None:
                if self._looks_like_sequence(value, length):
                    known = bool(group & 1) and tag & 0xFFFF_00FF in PRIVATE_SEQUENCES
                    self._attempt_sequence(tag, value, following, known)
                    return
                window, start, last = self._window, self._window_start, self._last_start
                end = self._container.end
            if outermost and group <= LAST_WANTED_GROUP and tag in wanted:
                self._capture(tag, value, length)
                window, start, last = self._window, self._window_start, self._last_start
                end = self._container.end
            position = following
        self._too_many()

    def _item(self) -> None:
        """One item of a sequence, or the sequence's end (PS3.5 7.5)."""
        position = self._position
        if position > self._last_start:
            self._move_window(position)
        container = self._container
        if position >= container.end:
            self._close_at_end()
            return
        group, element, length = container.codec.item(self._window, position - self._window_start)
        value = position + 8
        if value > container.end:
            raise _exceeds(container.tag)
        if group != _DELIMITER_GROUP or element not in (_ITEM, _SEQUENCE_DELIMITATION):
            raise StructureError(f"no item where one must be in {_name(container.tag)}", container.tag)
        self._position = value
        if element == _SEQUENCE_DELIMITATION:
            self._close()
            return
        delimited = length == _UNDEFINED_LENGTH
        end = container.end if delimited else value + length
        if end > container.end:
            raise StructureError(f"item of {_name(container.tag)} exceeds its sequence", container.tag)
        self._outer.append(container)
        self._container = _Container(_ELEMENTS, container.tag, end, delimited, container.codec)

    def _fragments(self) -> None:
        """The fragments of encapsulated pixel data, by their headers (PS3.5 A.4)."""
        container = self._container
        unpack = container.codec.item
        position = self._position
        for _ in self._steps:
            if position > self._last_start:
                self._move_window(position)
            end = self._container.end
            group, element, length = unpack(self._window, position - self._window_start)
            if position + 8 > end:
                raise StructureError(f"{_name(container.tag)} lacks its delimiter", container.tag)
            if group == _DELIMITER_GROUP and element == _SEQUENCE_DELIMITATION:
                self._position = position + 8
                self._close()
                return
            if group != _DELIMITER_GROUP or element != _ITEM:
                raise StructureError(f"no fragment where one must be in {_name(container.tag)}", container.tag)
            position += 8 + length
            if position > end:
                raise StructureError(f"fragment of {_name(container.tag)} exceeds the data", container.tag)
        self._too_many()

    def _delimiter(self, element: int) -> None:
        """A delimiter among elements. DCMTK does not look at its length (PS3.5 7.5.2: it is zero)."""
        tag = self._container.tag
        if element != _ITEM_DELIMITATION:
            raise StructureError(f"{_name(_DELIMITER_GROUP << 16 | element)} where an element must be", tag)
        if self._position + 8 > self._container.end:
            raise _exceeds(tag)
        self._position += 8
        if self._outer:
            self._close()
        else:
            self._finished = True  # DCMTK takes it for the end of the data set and reads no further

    def _open_undefined(self, tag: int, vr: bytes, value: int) -> None:
        container = self._container
        if value > container.end:
            raise _exceeds(tag)
        if vr == b"SQ":
            self._open_sequence(tag, value, None, container.codec)
        elif tag == _PIXEL_DATA and vr in PIXEL_DATA_VRS:
            self._outer.append(container)
            self._container = _Container(_FRAGMENTS, tag, container.end, True, container.codec)
            self._position = value
        elif vr == b"UN" or vr not in VRS_WITH_32_BIT_LENGTH:
            # PS3.5 6.2.2: UN of undefined length is a sequence in implicit VR little endian, whatever the
            # transfer syntax; to DCMTK so is a VR that it does not know
            self._open_sequence(tag, value, None, IMPLICIT_VR_LITTLE_ENDIAN)
        else:
            raise StructureError(f"{_name(tag)} must not be of undefined length", tag)

    def _open_sequence(self, tag: int, value: int, end: int | None, codec: Codec) -> None:
        container = self._container
        # every open sequence but the innermost stands on the stack together with its item
        if len(self._outer) >= 2 * self._maximum_depth:
            raise UnskippableError(f"more than {self._maximum_depth} nested sequences", tag)
        self._outer.append(container)
        self._container = _Container(_ITEMS, tag, container.end if end is None else end, end is None, codec)
        self._position = value

    def _looks_like_sequence(self, value: int, length: int) -> bool:
        if length < 8:
            return False
        if value > self._last_start:
            self._move_window(value)
        return self._window.startswith(_ITEM_TAG_BYTES, value - self._window_start)

    def _attempt_sequence(self, tag: int, value: int, end: int, known_as_sequence: bool) -> None:
        self._attempts.append(_Attempt(len(self._outer), end, tag, known_as_sequence))
        self._open_sequence(tag, value, end, IMPLICIT_VR_LITTLE_ENDIAN)

    def _give_up_attempt(self, error: StructureError) -> None:
        """Skips the innermost value that may have been no sequence after all; raises if there is none.

        Nothing is read twice, because every container within the value ends within it. A value that a
        reader with a private dictionary takes for a sequence is not skipped: DCMTK forgives some errors of
        length, and what it then finds inside would not have been seen here.
        """
        while self._attempts:
            attempt = self._attempts.pop()
            if not attempt.known_as_sequence:
                self._container = self._outer[attempt.depth]
                del self._outer[attempt.depth :]
                self._position = attempt.end
                return
        raise error

    def _close_at_end(self) -> None:
        container = self._container
        if container.delimited:
            raise StructureError(f"{_name(container.tag)} lacks its delimiter", container.tag)
        if self._outer:
            self._close()
        else:
            self._finished = True

    def _close(self) -> None:
        """Goes back to what holds the container, and on from the position.

        A delimiter may have ended a container of defined length before its end: DCMTK goes on behind it.
        """
        self._container = self._outer.pop()
        if self._attempts and self._attempts[-1].depth == len(self._outer):
            attempt = self._attempts.pop()
            if self._position != attempt.end:
                if attempt.known_as_sequence:
                    raise StructureError(f"delimiter within {_name(attempt.tag)}", attempt.tag)
                self._position = attempt.end

    def _capture(self, tag: int, value: int, length: int) -> None:
        self._wanted.discard(tag)
        if length > MAXIMUM_VALUE_BYTES:
            return
        if value + length > self._last_start:
            self._move_window(value)
        begin = value - self._window_start
        self._values[tag] = self._window[begin : begin + length]

    def _move_window(self, position: int) -> tuple[bytes, int, int]:
        self._window = self._source.read(position)
        self._window_start = position
        self._last_start = position + len(self._window) - HEADER_BYTES
        if self._source.end != self._known_end:
            self._end_is_known()
        return self._window, position, self._last_start

    def _end_is_known(self) -> None:
        """The inflated data have come to their end: nothing open may reach beyond it."""
        end = self._known_end = self._source.end
        containers = [*self._outer, self._container]
        for container in containers[1:]:
            if not container.delimited and container.end > end:
                raise UnskippableError(f"{_name(container.tag)} exceeds the data set", container.tag)
        *self._outer, self._container = (c._replace(end=min(c.end, end)) for c in containers)

    def _too_many(self) -> NoReturn:
        raise UnskippableError(f"more than {self._maximum_elements} elements and items")
