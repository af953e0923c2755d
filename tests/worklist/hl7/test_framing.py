"""Frames come out of a stream of bytes as they were sent, however it was split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mllp import CR, FS, VT, enclosed
from worklist.hl7.framing import HEAD_BYTES, Frame, FrameReader

MAXIMUM = 10_000


def frames(chunks: list[bytes], maximum: int = MAXIMUM) -> list[Frame]:
    """What a reader makes of chunks, one after the other, and of the end of the stream."""
    reader, found = FrameReader(maximum), []
    for chunk in chunks:
        reader.feed(chunk)
        while (frame := reader.next()) is not None:
            found.append(frame)
    last = reader.end()
    return found if last is None else [*found, last]


def bodies(*chunks: bytes) -> list[bytes]:
    return [frame.body for frame in frames(list(chunks))]


# Whatever a message may hold; VT, FS and what follows them have meanings of their own, which other tests have.
CONTENT = st.binary(max_size=200).map(lambda data: data.replace(VT, b".").replace(FS, b"."))
NOISE = st.binary(max_size=20).map(lambda data: data.replace(VT, b""))
END = st.sampled_from([FS + CR, FS + b"\n", FS + b"\r\n"])


@given(st.lists(st.tuples(NOISE, CONTENT, END), max_size=5), st.data())
def test_messages_come_out_however_the_bytes_were_split(
    messages: list[tuple[bytes, bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(noise + VT + content + end for noise, content, end in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert bodies(*chunks) == [content for _noise, content, _end in messages]
    assert bodies(*(stream[i : i + 1] for i in range(len(stream)))) == bodies(stream)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_harm_the_reader_and_it_holds_no_more_than_it_may(chunks: list[bytes]) -> None:
    reader = FrameReader(500)
    for chunk in chunks:
        reader.feed(chunk)
        while (frame := reader.next()) is not None:
            assert len(frame.body) <= 500
            assert frame.is_too_large == (frame.size > 500)
        assert len(reader._data) <= 500 + 300


@pytest.mark.parametrize("end", [FS, FS + CR, FS + b"\n", FS + b"\r\n"])
def test_frames_end_with_fs_and_what_the_sender_puts_behind_it(end: bytes) -> None:
    assert bodies(VT + b"one" + end + VT + b"two" + end) == [b"one", b"two"]


def test_fs_inside_a_message_is_no_end() -> None:
    assert bodies(VT + b"a" + FS + b"b", FS + CR) == [b"a" + FS + b"b"]


def test_fs_may_be_the_end_or_not_as_long_as_nothing_follows() -> None:
    reader = FrameReader(MAXIMUM)
    reader.feed(VT + b"a" + FS)
    assert reader.next() is None
    assert reader.may_have_ended
    assert reader.end() == Frame(b"a", 1)
    assert not reader.is_inside


def test_half_a_message_is_none() -> None:
    assert bodies(VT + b"MSH|half") == []


def test_a_message_begun_anew_replaces_what_was_not_finished() -> None:
    assert frames([VT + b"MSH|half" + enclosed(b"MSH|whole")]) == [Frame(b"MSH|whole", 9, replaces_unfinished=True)]


def test_of_a_message_that_is_too_large_the_head_is_kept_and_its_size_known() -> None:
    message = b"x" * (3 * MAXIMUM + 5)
    stream = enclosed(message) + enclosed(b"next")
    for size in (1, 999, len(stream)):
        chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert frames(chunks) == [Frame(message[:HEAD_BYTES], len(message), is_too_large=True), Frame(b"next", 4)]


def test_a_message_of_the_largest_size_is_not_too_large() -> None:
    assert frames([enclosed(b"x" * MAXIMUM)]) == [Frame(b"x" * MAXIMUM, MAXIMUM)]
    assert [frame.is_too_large for frame in frames([enclosed(b"x" * (MAXIMUM + 1))])] == [True]


def test_bytes_between_frames_are_counted_and_shown() -> None:
    reader = FrameReader(MAXIMUM)
    reader.feed(b"\r\n GET / HTTP/1.1\r\n")
    assert reader.next() is None
    assert (reader.noise_bytes, reader.noise) == (len(b"GET / HTTP/1.1"), b"GET / HT")
