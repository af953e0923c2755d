"""check_structure: what is broken, or would harm those who parse it, is refused at small cost."""

from __future__ import annotations

import os
import time
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom.structure import DEFAULT_LIMITS, Limits, StructureError, check_structure
from tests.support.data_sets import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_DELIMITATION,
    PATIENT_ID,
    PIXEL_DATA,
    REFERENCED_IMAGE_SEQUENCE,
    SEQUENCE_DELIMITATION,
    SYNTAXES,
    UNDEFINED,
    check,
    data_sets,
    deflate,
    element,
    encode,
    file_with,
    item,
    sequence,
)

quiet = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def assert_refused(data_set: bytes, syntax: str = EXPLICIT, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(StructureError) as refusal:
        check(data_set, syntax, limits)
    reason = refusal.value.reason
    assert reason.isascii() and len(reason) <= 64
    return reason


@quiet
@given(data_sets(), st.sampled_from(SYNTAXES), st.data())
def test_cut_data_set_passes_only_if_cut_between_elements_of_the_top_level(
    data_set: Dataset, syntax: str, data: st.DataObject
) -> None:
    encoded = encode(data_set, syntax)
    boundaries = set()
    written = Dataset()
    for each in data_set:
        written[each.tag] = each
        boundaries.add(len(encode(written, syntax)))
    cut = data.draw(st.one_of(st.integers(0, len(encoded)), st.sampled_from([0, *boundaries])))
    if cut in boundaries:
        check(encoded[:cut], syntax)
    else:
        assert_refused(encoded[:cut], syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "fault",
    [
        "trailing bytes",
        "sequence beyond the data",
        "item beyond the data",
        "delimiter across the end of an item",
        "delimiter across the end of a sequence",
        "delimiter of fragments across the end of an item",
        "value beyond the data",
        "value beyond the item",
        "item beyond the sequence",
        "sequence beyond the item",
        "sequence without delimiter",
        "item without delimiter",
        "item at the top level",
        "wrong delimiter for an item",
        "wrong delimiter for a sequence",
        "no item in a sequence",
        "text of undefined length",
        "fragments without delimiter",
        "fragment beyond the data",
        "fragment of undefined length",
        "element among fragments",
    ],
)
def test_fault_is_refused(fault: str, syntax: str) -> None:
    def e(tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
        return element(tag, vr, value, syntax, length=length)

    def s(content: bytes, length: int | None = None) -> bytes:
        return e(REFERENCED_IMAGE_SEQUENCE, "SQ", content, length)

    text = e(0x00080050, "SH", b"AB")
    end_of_item, end_of_sequence = e(ITEM_DELIMITATION, ""), e(SEQUENCE_DELIMITATION, "")
    data_set = {
        "trailing bytes": text + bytes(4),
        "sequence beyond the data": s(e(ITEM, "", text), 100),
        "item beyond the data": s(e(ITEM, "", text, 100), UNDEFINED),
        "delimiter across the end of an item": s(e(ITEM, "", end_of_item[:4])) + end_of_item[4:] + text,
        "delimiter across the end of a sequence": s(end_of_sequence[:4]) + end_of_sequence[4:] + text,
        "delimiter of fragments across the end of an item": s(
            e(ITEM, "", e(PIXEL_DATA, "OB", end_of_sequence[:4], UNDEFINED))
        )
        + end_of_sequence[4:]
        + text,
        "value beyond the data": e(0x00080050, "SH", b"AB", 3),
        "value beyond the item": s(e(ITEM, "", e(0x00080050, "SH", b"AB", 4))) + text,
        "item beyond the sequence": s(e(ITEM, "", b"", len(text))) + text,
        "sequence beyond the item": s(e(ITEM, "", s(b"", 8)) + e(ITEM, "")),
        "sequence without delimiter": s(e(ITEM, "", text), UNDEFINED),
        "item without delimiter": s(e(ITEM, "", text, UNDEFINED)) + text,
        "item at the top level": text + e(ITEM, "", text),
        "wrong delimiter for an item": s(e(ITEM, "", text + end_of_sequence, UNDEFINED)),
        "wrong delimiter for a sequence": s(e(ITEM, "") + end_of_item, UNDEFINED),
        "no item in a sequence": s(text),
        "text of undefined length": e(0x00104000, "UT", e(ITEM, "") + end_of_sequence, UNDEFINED),
        "fragments without delimiter": e(PIXEL_DATA, "OB", e(ITEM, ""), UNDEFINED),
        "fragment beyond the data": e(PIXEL_DATA, "OB", e(ITEM, "", b"A", 9), UNDEFINED),
        "fragment of undefined length": e(PIXEL_DATA, "OB", e(ITEM, "", b"", UNDEFINED) + end_of_sequence, UNDEFINED),
        "element among fragments": e(PIXEL_DATA, "OB", text + end_of_sequence, UNDEFINED),
    }[fault]
    assert_refused(data_set, syntax)
    if syntax == EXPLICIT:
        assert_refused(data_set, DEFLATED)


def test_empty_data_set_is_refused() -> None:
    assert assert_refused(b"") == assert_refused(b"", DEFLATED) == "empty data set"


def test_error_names_the_element_at_fault() -> None:
    with pytest.raises(StructureError) as refusal:
        check(element(0x00100020, "LO", b"A", length=200))
    assert refusal.value.tag == 0x00100020
    assert refusal.value.reason == "value of (0010,0020) exceeds its container"


def nested(levels: int, syntax: str, form: str) -> bytes:
    tag, vr = (0x00291077, "UN") if "private" in form else (REFERENCED_IMAGE_SEQUENCE, "SQ")
    inner = syntax
    if "UN" in form and syntax != IMPLICIT:
        vr, inner = "UN", IMPLICIT
    if "undefined" in form:
        opening = element(tag, vr, syntax=inner, length=UNDEFINED) + element(ITEM, "", syntax=inner, length=UNDEFINED)
        closing = element(ITEM_DELIMITATION, "", syntax=inner) + element(SEQUENCE_DELIMITATION, "", syntax=inner)
        outermost = element(tag, vr, syntax=syntax, length=UNDEFINED) + opening[-8:]
        return outermost + opening * (levels - 1) + closing * levels
    parts: list[bytes] = []
    size = 0
    for level in range(levels):
        of_sequence = syntax if level == levels - 1 else inner
        parts.append(element(ITEM, "", syntax=inner, length=size))
        size += 8
        parts.append(element(tag, vr, syntax=of_sequence, length=size))
        size += len(parts[-1])
    return b"".join(reversed(parts))


@pytest.mark.parametrize("syntax", [*SYNTAXES, DEFLATED])
@pytest.mark.parametrize(
    "form",
    ["undefined", "defined", "undefined UN", "defined UN", "undefined private UN", "defined private UN"],
)
def test_depth_is_limited_however_it_is_hidden(syntax: str, form: str) -> None:
    encoding = EXPLICIT if syntax == DEFLATED else syntax
    check(nested(DEFAULT_LIMITS.maximum_depth, encoding, form) + bytes(8), syntax)
    for levels in (DEFAULT_LIMITS.maximum_depth + 1, 65, 100_000):
        data_set = nested(levels, encoding, form)
        begin = time.perf_counter()
        assert "nested" in assert_refused(data_set, syntax)
        assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_depth_is_seen_wherever_a_window_ends(syntax: str) -> None:
    deep = nested(DEFAULT_LIMITS.maximum_depth + 1, syntax, "defined private UN")
    for filling in range((8 << 10) - 60, 8 << 10, 2):
        assert_refused(element(0x00091010, "OB", bytes(filling), syntax) + deep, syntax)


def test_depth_is_seen_behind_errors_that_dcmtk_forgives() -> None:
    """Where DCMTK knows a private sequence, it reads on behind these, into what would be a skipped value."""
    creator = element(0x00290010, "LO", b"CARDIO-D.R. 1.0 ", IMPLICIT)
    deep = nested(100, IMPLICIT, "undefined")
    after = element(0x00291001, "", bytes(8), IMPLICIT)
    end_of_sequence = element(SEQUENCE_DELIMITATION, "", syntax=IMPLICIT)
    for value in (
        element(ITEM, "", deep, IMPLICIT, length=len(deep) + len(after)),  # an item larger than its sequence
        item(b"", IMPLICIT) + end_of_sequence + deep,  # a sequence that ends early
    ):
        assert_refused(creator + element(0x00291000, "", value, IMPLICIT) + after, IMPLICIT)


def test_number_of_elements_is_limited() -> None:
    limits = Limits(maximum_elements=100)
    plain, items = element(0x00080050, "SH"), sequence(REFERENCED_IMAGE_SEQUENCE, item() * 101)
    fragments = element(PIXEL_DATA, "OB", item() * 101 + element(SEQUENCE_DELIMITATION, ""), length=UNDEFINED)
    check(plain * 99, limits=limits)
    for data_set in (plain * 101, items, fragments):
        assert "100 elements" in assert_refused(data_set, limits=limits)


@pytest.mark.parametrize("value_length", [0, 64 << 20])
def test_deflate_bomb_is_refused_within_its_bound(value_length: int) -> None:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = compressor.compress(element(0x00420011, "OB", length=value_length))
    bomb = head + b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()
    with file_with(bomb) as fd:
        tracemalloc.start()
        try:
            with pytest.raises(StructureError):
                check_structure(fd, 0, len(bomb), DEFLATED, Limits(maximum_inflated_bytes=8 << 20))
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()


def test_inflated_size_may_be_exactly_the_limit() -> None:
    data_set = element(0x00420011, "OB", bytes(200_000))
    check(data_set, DEFLATED, Limits(maximum_inflated_bytes=len(data_set)))
    assert_refused(data_set, DEFLATED, Limits(maximum_inflated_bytes=len(data_set) - 1))


def test_length_beyond_the_end_of_much_deflated_data_is_refused() -> None:
    content = item(element(0x00420011, "OB", bytes(200_000)))
    check(sequence(REFERENCED_IMAGE_SEQUENCE, content), DEFLATED)
    assert_refused(element(REFERENCED_IMAGE_SEQUENCE, "SQ", content, length=len(content) + 2), DEFLATED)
    assert_refused(element(0x00420011, "OB", bytes(200_000), length=200_001), DEFLATED)


def test_corrupt_or_truncated_deflate_stream_is_refused() -> None:
    stream = deflate(element(0x00420011, "OB", os.urandom(100_000)) + PATIENT_ID)
    for broken in (stream[:-2], stream[:50_000], b"\xff" * 100, stream[:1]):
        with file_with(broken) as fd, pytest.raises(StructureError, match="deflate"):
            check_structure(fd, 0, len(broken), DEFLATED)


def test_file_shorter_than_announced_is_refused() -> None:
    with file_with(PATIENT_ID) as fd, pytest.raises(StructureError):
        check_structure(fd, 0, len(PATIENT_ID) + 8, EXPLICIT)


@quiet
@given(st.binary(max_size=400), st.sampled_from([*SYNTAXES, DEFLATED]), st.booleans())
def test_random_bytes_raise_nothing_but_structure_error(data: bytes, syntax: str, raw: bool) -> None:
    stored = deflate(data) if syntax == DEFLATED and not raw else data
    with file_with(stored) as fd:
        try:
            check_structure(fd, 0, len(stored), syntax)
        except StructureError as refusal:
            assert refusal.reason.isascii() and len(refusal.reason) <= 64


@quiet
@given(data_sets(), st.sampled_from([*SYNTAXES, DEFLATED]), st.data())
def test_damaged_data_set_raises_nothing_but_structure_error(
    data_set: Dataset, syntax: str, data: st.DataObject
) -> None:
    encoded = bytearray(encode(data_set, syntax) or b"\0")
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(encoded) - 1))
        encoded[position] = data.draw(st.sampled_from([0, 1, 8, 0x20, 0xE0, 0xFE, 0xFF]))
    try:
        check(bytes(encoded), syntax)
    except StructureError as refusal:
        assert refusal.reason.isascii() and len(refusal.reason) <= 64
