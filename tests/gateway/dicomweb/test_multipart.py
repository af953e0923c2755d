from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicomweb.errors import BadAnswer
from gateway.dicomweb.multipart import MAXIMUM_HEADERS_BYTES, Multipart
from tests.support.hostile_dicomweb import part10

FILES = [part10(f"1.2.{n}", bytes([n]) * size) for n, size in enumerate((0, 1, 300, 70_000))]
RELATED = 'multipart/related; type="application/dicom"; boundary=xyz'
HEADERS = b"Content-Type: application/dicom\r\nContent-Length: 9\r\n\r\n"


def body(headers: bytes = HEADERS, boundary: bytes = b"xyz", newline: bytes = b"\r\n") -> bytes:
    parts = (newline + b"--" + boundary + newline + headers.replace(b"\r\n", newline) + file for file in FILES)
    return b"".join(parts) + newline + b"--" + boundary + b"--" + newline


def files(pieces: Iterator[bytes], content_type: str) -> list[bytes]:
    multipart = Multipart(pieces, {"Content-Type": content_type})
    found = []
    while multipart.next_part():
        found.append(b"".join(iter(multipart.read, b"")))
    return found


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=400))
def test_parts_are_the_same_wherever_the_answer_is_cut(sizes: list[int]) -> None:
    whole = body()

    def pieces() -> Iterator[bytes]:
        position = 0
        for size in sizes:
            yield whole[position : position + size]
            position += size
        yield whole[position:]

    # an iterator may yield nothing within: that ends it, as the end of an answer does
    assert files(filter(None, pieces()), RELATED) == FILES


@pytest.mark.parametrize(
    ("content_type", "whole"),
    [
        ("multipart/related; type=application/dicom", body()),
        ("", body()),
        ('multipart/related; boundary="a b\'=x"', body(boundary=b"a b'=x")),
        (RELATED, b"a preamble that says nothing" + body()),
        (RELATED, body(headers=b"\r\n")),
        (RELATED, body(headers=b"")),
        (RELATED, body(newline=b"\n")),
    ],
    ids=["no boundary", "no type", "quoted", "prologue", "no headers", "not even an empty line", "newlines"],
)
def test_what_servers_make_of_multipart_is_understood(content_type: str, whole: bytes) -> None:
    assert files(iter([whole]), content_type) == FILES


@pytest.mark.parametrize("content_type", ["application/dicom", RELATED, ""])
def test_a_file_without_multipart_is_one_part(content_type: str) -> None:
    assert files(iter([FILES[3][:100], FILES[3][100:]]), content_type) == [FILES[3]]


def test_parts_that_are_not_read_are_passed_over() -> None:
    multipart = Multipart(iter([body()]), {"Content-Type": RELATED})
    assert [multipart.next_part() for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    "whole",
    [
        body()[:-60_000],
        b"<html>" * 20_000,
        b"\r\n--xyz\r\n" + b"A: b\r\n" * MAXIMUM_HEADERS_BYTES,
        b"no multipart at all",
    ],
    ids=["cut off", "a page", "headers without end", "text"],
)
def test_what_is_no_answer_is_an_error(whole: bytes) -> None:
    with pytest.raises(BadAnswer):
        files(iter([whole]), RELATED)


def test_an_answer_without_a_part_has_none() -> None:
    assert files(iter([]), RELATED) == []
    assert files(iter([b"--xyz--"]), RELATED) == []
