"""A message as it goes over the wire: command and data set in P-DATA-TF PDUs (PS3.8 9.3.5, Annex E), in one buffer.

The data set is read into the places between headers that stand there already, so that nothing is copied, and one
system call sends as many PDUs as fit.
"""

import struct
from typing import Final

from scp.association_errors import DataSetUnavailable
from scp.data_set_sources import EncodedDataSet

# What a receiver without limit (0) or with a very large one gets: more per PDU does not make it faster.
MAXIMUM_PDU_BYTES: Final = 131072
# What an association holds of the data set that it sends: two of the largest PDUs.
BUFFER_BYTES: Final = 2 * (MAXIMUM_PDU_BYTES + 16)
# Of one preadv(), IOV_MAX of Linux.
_MAXIMUM_FRAGMENTS: Final = 1024
# Before the first fragment, so that it goes out together with the command.
_COMMAND_ROOM_BYTES: Final = 4096

_HEADER = struct.Struct(">BxLLBB")
_P_DATA_TF: Final = 0x04
_DATA_SET: Final = 0x00
_LAST: Final = 0x02
# What the length of a PDU counts besides data: the PDV's length, context ID and message control header.
_PDV_OVERHEAD_BYTES: Final = 6


class FragmentBuffer:
    """The buffer of one association. A view that it returns is valid until the next call."""

    def __init__(self, maximum_pdu_bytes: int) -> None:
        """`maximum_pdu_bytes` is what the peer receives at most (PS3.8 D.1); 0 is unlimited."""
        limit = min(maximum_pdu_bytes or MAXIMUM_PDU_BYTES, MAXIMUM_PDU_BYTES)
        # Fragments have an even length (PS3.8 9.3.5.1), also for those who advertise an odd limit.
        self._room = max(2, (limit - _PDV_OVERHEAD_BYTES) // 2 * 2)
        self._stride = _HEADER.size + self._room
        count = max(1, min(BUFFER_BYTES // self._stride, _MAXIMUM_FRAGMENTS))
        self._buffer = memoryview(bytearray(_COMMAND_ROOM_BYTES + count * self._stride))
        starts = [self._start(number) + _HEADER.size for number in range(count)]
        self._places = [self._buffer[start : start + self._room] for start in starts]
        self._context_id = 0
        # How many of the first fragments have the header of a full one on this context.
        self._full_headers = 0

    def first(self, context_id: int, command: bytes, data_set: EncodedDataSet) -> tuple[memoryview, bool]:
        """Return the PDUs of `command` with the first of `data_set` behind them, and whether these are all.

        Raises DataSetUnavailable, also for an empty data set.
        """
        if context_id != self._context_id:
            self._context_id, self._full_headers = context_id, 0
        end, ended = self._fill(data_set)
        start = _COMMAND_ROOM_BYTES - len(command)
        if end == _COMMAND_ROOM_BYTES:
            raise DataSetUnavailable("the data set is empty")
        if start < 0:
            raise ValueError(f"command of {len(command)} bytes")
        self._buffer[start:_COMMAND_ROOM_BYTES] = command
        return self._buffer[start:end], ended

    def next(self, data_set: EncodedDataSet) -> tuple[memoryview, bool]:
        """Return the next PDUs of `data_set`, and whether these are the last. Raises DataSetUnavailable."""
        end, ended = self._fill(data_set)
        return self._buffer[_COMMAND_ROOM_BYTES:end], ended

    def _fill(self, data_set: EncodedDataSet) -> tuple[int, bool]:
        count, ended = data_set.fill(self._places)
        full, rest = divmod(count, self._room)
        if ended and count and not rest:
            full, rest = full - 1, self._room
        for number in range(self._full_headers, full):
            self._put_header(number, self._room, _DATA_SET)
        self._full_headers = max(self._full_headers, full)
        if not ended or not count:
            return self._start(full), ended
        self._put_header(full, rest, _LAST)
        self._full_headers = min(self._full_headers, full)
        return self._start(full) + _HEADER.size + rest, ended

    def _put_header(self, number: int, size: int, control: int) -> None:
        pdv_bytes = size + 2
        start = self._start(number)
        _HEADER.pack_into(self._buffer, start, _P_DATA_TF, pdv_bytes + 4, pdv_bytes, self._context_id, control)

    def _start(self, number: int) -> int:
        return _COMMAND_ROOM_BYTES + number * self._stride
