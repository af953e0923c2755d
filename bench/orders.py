"""A RIS that sends orders over MLLP (HL7 v2.3.1, ORM^O01), each after the acknowledgement of the one before."""

import itertools
import multiprocessing
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.worklists import UID_ROOT, day, station

BEGIN_BLOCK, END_BLOCK = b"\x0b", b"\x1c\r"  # HL7, transport specification: MLLP
TIMEOUT_S = 60.0
HEAD_START_S = 0.5
RECEIVE_BYTES = 65536


class OrderFailed(OSError):
    """An order was not acknowledged with AA."""


@dataclass
class Acknowledged:
    """How long each order took until its AA, and all of them together."""

    times_ms: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0


def order(number: int) -> bytes:
    """A new order for today, as many RIS write it."""
    control, today = control_id(number), day(0)
    start = f"{today}{8 + number % 10:02}{number % 60:02}00"
    segments = [
        f"MSH|^~\\&|RIS|HOSPITAL|GATEWAY|RADIOLOGY|{today}080000||ORM^O01|{control}|P|2.3.1||||||8859/1",
        f"PID|1||H{number:06}^^^HOSPITAL||ORDER{number:06}^GIVEN||19{number % 90 + 10}0{number % 9 + 1}15|F",
        "PV1|1|I|WARD^1^2|||||REF1^REFERRER^ROBERT",
        f"ORC|NW|P{number:06}|F{number:06}||SC||1^once^^{start}^^R||{today}080000||||WARD1^WARD^WENDY",
        f"OBR|1|P{number:06}|F{number:06}|CHEST^Chest PA and lateral^LOCAL^CHEST^Chest PA and lateral^LOCAL"
        f"||||||||||||WARD1^WARD^WENDY||HA{number:06}|RP{number:06}|SP{number:06}|{station(number)}|||CR|||1^once^^{start}",
        f"ZDS|{UID_ROOT}.3.{number + 1}^GATEWAY^Application^DICOM",
    ]
    return "\r".join([*segments, ""]).encode("ascii")


def control_id(number: int) -> str:
    return f"BENCH{number}"


@dataclass(frozen=True)
class Sender:
    """One persistent connection that sends the orders with these numbers."""

    port: int
    numbers: range

    def __call__(self, begin: float) -> Acknowledged:
        """Send from `begin` (time.monotonic) on. Raises OrderFailed."""
        messages = [(control_id(number).encode(), order(number)) for number in self.numbers]
        acknowledged = Acknowledged()
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            time.sleep(max(0.0, begin - time.monotonic()))
            for control, message in messages:
                started = time.perf_counter()
                connection.sendall(BEGIN_BLOCK + message + END_BLOCK)
                answer = _receive(connection)
                acknowledged.times_ms.append((time.perf_counter() - started) * 1000)
                if b"\rMSA|AA|" + control not in answer:
                    raise OrderFailed(answer.decode(errors="replace").replace("\r", " "))
            acknowledged.elapsed_s = time.monotonic() - begin
        return acknowledged


def _receive(connection: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(END_BLOCK):
        received = connection.recv(RECEIVE_BYTES)
        if not received:
            raise OrderFailed("the connection was closed instead of an acknowledgement")
        answer += received
    return answer


def send(port: int, first: int, orders: int, connections: int) -> Acknowledged:
    """Send `orders` orders, numbered from `first`, on some connections at once. Raises OrderFailed."""
    senders = [Sender(port, range(first + index, first + orders, connections)) for index in range(connections)]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(connections, mp_context=context) as executor:
        begin = time.monotonic() + HEAD_START_S
        results = list(executor.map(_run, senders, itertools.repeat(begin)))
    times_ms = [ms for result in results for ms in result.times_ms]
    return Acknowledged(times_ms, max(result.elapsed_s for result in results))


def _run(sender: Sender, begin: float) -> Acknowledged:
    return sender(begin)
