"""Any data set in any PDU size is the same data set: lengths, headers, order, the last fragment."""

import os
import struct
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scp.association_errors import DataSetUnavailable
from scp.command_set import C_STORE_RQ, Request, encode_request, p_data_tf
from scp.data_set_sources import Chunks, EncodedDataSet, FileRange
from scp.fragments import BUFFER_BYTES, FragmentBuffer

CONTEXT_ID: Final = 7
COMMAND: Final = encode_request(Request(C_STORE_RQ, "1.2", "1.3"), 1, data_set=True)
COMMAND_LAST, DATA_LAST, COMMAND_MORE, DATA_MORE = 3, 2, 1, 0


def wire(buffer: FragmentBuffer, data_set: EncodedDataSet, maximum: int) -> bytes:
    view, ended = buffer.first(CONTEXT_ID, p_data_tf(CONTEXT_ID, COMMAND, maximum), data_set)
    sent = bytes(view)
    while not ended:
        view, ended = buffer.next(data_set)
        sent += bytes(view)
    return sent


def fragments(sent: bytes, maximum: int) -> Iterator[tuple[int, bytes]]:
    while sent:
        kind, length, pdv_length, context_id, control = struct.unpack_from(">BxLLBB", sent)
        assert (kind, context_id, pdv_length) == (4, CONTEXT_ID, length - 4)
        assert not maximum or length <= max(maximum, 8)
        assert len(sent) >= 6 + length
        yield control, sent[12 : 6 + length]
        sent = sent[6 + length :]


def check(sent: bytes, data: bytes, maximum: int) -> None:
    found = list(fragments(sent, maximum))
    controls = [control for control, _ in found]
    commands = [piece for control, piece in found if control in (COMMAND_LAST, COMMAND_MORE)]
    pieces = [piece for control, piece in found if control in (DATA_LAST, DATA_MORE)]
    assert controls == [
        *[COMMAND_MORE] * (len(commands) - 1),
        COMMAND_LAST,
        *[DATA_MORE] * (len(pieces) - 1),
        DATA_LAST,
    ]
    assert b"".join(commands) == COMMAND
    assert b"".join(pieces) == data
    assert all(len(piece) % 2 == 0 for piece in [*commands, *pieces[:-1]])
    assert all(pieces)


def split(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


maxima = st.one_of(st.integers(1, 200), st.sampled_from([4096, 4097, 16383, 16384, 131072, 131073, 2**32 - 1, 0]))
lengths = st.one_of(st.integers(1, 600), st.integers(1, 400_000).map(lambda n: n * 2))


@settings(max_examples=150, deadline=None)
@given(maximum=maxima, length=lengths, sizes=st.lists(st.integers(0, 70_000), max_size=8), seed=st.integers(0, 255))
def test_any_data_set_arrives_in_any_pdu_size(maximum: int, length: int, sizes: list[int], seed: int) -> None:
    data = (bytes(range(256)) * 3000)[seed : seed + min(length, 300 * (maximum or length))]
    buffer = FragmentBuffer(maximum)
    check(wire(buffer, Chunks(split(data, sizes), len(data)), maximum), data, maximum)
    with TemporaryFile() as file:
        file.write(b"before" + data + b"behind")
        file.flush()
        check(wire(buffer, FileRange(file.fileno(), 6, len(data)), maximum), data, maximum)


@pytest.mark.parametrize("maximum", [16384, 131072])
def test_buffer_boundaries(maximum: int) -> None:
    """A data set that ends exactly with a fragment or with the buffer has no empty fragment behind it."""
    room = maximum - 6
    per_buffer = BUFFER_BYTES // (room + 12) * room
    buffer = FragmentBuffer(maximum)
    for size in (room, per_buffer, 2 * per_buffer, per_buffer + room, per_buffer + 2, per_buffer - 2, 2):
        data = os.urandom(size)
        check(wire(buffer, Chunks([data]), maximum), data, maximum)
        check(wire(buffer, Chunks(iter([data[:-1], b"", data[-1:], b""])), maximum), data, maximum)


def test_command_and_first_fragments_are_one_view() -> None:
    view, ended = FragmentBuffer(16384).first(CONTEXT_ID, b"command", Chunks([b"data"]))
    assert ended
    assert bytes(view[:7]) == b"command"
    assert bytes(view[-4:]) == b"data"


def test_headers_follow_the_context() -> None:
    buffer = FragmentBuffer(64)
    data = bytes(300)
    for context_id in (1, 3, 1):
        view, _ = buffer.first(context_id, b"", Chunks([data]))
        assert {view[start + 10] for start in range(0, len(view), 70)} == {context_id}


@pytest.mark.parametrize(
    ("data_set", "reason"),
    [
        (Chunks([]), "empty"),
        (Chunks([b"", b""]), "empty"),
        (Chunks([b"12"], 3), "ends 1 bytes early"),
        (Chunks([b"1234"], 3), "longer than announced"),
    ],
)
def test_source_that_is_not_what_it_was_said_to_be(data_set: Chunks, reason: str) -> None:
    with pytest.raises(DataSetUnavailable, match=reason):
        FragmentBuffer(64).first(CONTEXT_ID, b"", data_set)


def test_file_that_is_too_short_or_gone() -> None:
    with TemporaryFile() as file:
        file.write(b"12345678")
        file.flush()
        with pytest.raises(DataSetUnavailable, match="ends 2 bytes early"):
            FragmentBuffer(64).first(CONTEXT_ID, b"", FileRange(file.fileno(), 0, 10))
        fd = file.fileno()
    with pytest.raises(DataSetUnavailable, match="Bad file descriptor"):
        FragmentBuffer(64).first(CONTEXT_ID, b"", FileRange(fd, 0, 8))
