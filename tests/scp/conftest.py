"""One gateway that all hostile peers meet, without an Orthanc: what it accepts stays in its spool."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest

from gateway.deliveries import SOCKET_NAME
from tests import conftest as root
from tests.support import processes
from tests.support.rawdicom import Context, RawPeer, associate_rq
from tests.support.standalone import Gateway

DEADLINE_S: Final = 30
WORKERS: Final = 2
# Nothing listens on TCP port 9 of a test machine, and nothing may: it is "discard" (RFC 863).
UNREACHABLE_ORTHANC: Final = {"Url": "http://127.0.0.1:9"}
MIB: Final = 1 << 20
# Equal ones in a row that mean rest: with the pauses of wait_until more than twice RECONNECT_DELAY_S.
READINGS: Final = 25

StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts a standalone gateway (arguments: Orthanc's options) for the tests of one file."""
    made: list[Any] = []

    def start(**configuration: Any) -> Gateway:
        section = {"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, **configuration.pop("DicomGateway", {})}
        gateway = Gateway(tmp_path_factory.mktemp("gateway"), DicomGateway=section, **configuration)
        made.append(gateway)
        root._servers.append(gateway)
        gateway.start()
        return gateway

    yield start
    root._closing(made)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, half_open: "HalfOpen") -> Gateway:
    """A gateway with Orthanc's defaults whose workers have all received an instance."""
    running = start_gateway(DicomGateway={"Workers": WORKERS, "MaximumInflatedBytes": MIB})
    warm_up(running)
    return running


@pytest.fixture
def intact(gateway: Gateway) -> Iterator[Gateway]:
    """The gateway, which must have as many threads and descriptors after the test as before, and serve on."""
    before = resources(gateway)
    start_of_log = len(gateway.log_text())
    yield gateway
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store("2.25.100").status == 0
        peer.release()
    wait_for_resources(gateway, before)
    assert half_received(gateway) == []
    assert "ended by an error of the gateway" not in gateway.log_text()[start_of_log:]


@dataclass(frozen=True)
class HalfOpen:
    """Connections that were opened at `since` (time.monotonic) and never became associations."""

    gateway: Gateway
    peers: list[RawPeer]
    since: float
    log: "Log"
    before: "dict[int, Resources]"


@pytest.fixture(scope="session")
def half_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HalfOpen]:
    """Opened with the first gateway, so that no test has to wait as long as a gateway does for a first word."""
    gateway = Gateway(tmp_path_factory.mktemp("half_open"), DicomGateway={"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC})
    root._servers.append(gateway)
    try:
        gateway.start()
        warm_up(gateway)
        before = resources(gateway)
        with ExitStack() as stack:
            peers = [stack.enter_context(RawPeer(gateway.dicom_port, timeout_s=2 * DEADLINE_S)) for _ in range(3)]
            for peer, begun in zip(peers, (0, 3, 100), strict=True):
                peer.send(associate_rq([Context(1)])[:begun])
            yield HalfOpen(gateway, peers, time.monotonic(), Log(gateway), before)
    finally:
        root._closing([gateway])


@dataclass(frozen=True)
class Resources:
    """What a process holds that can leak."""

    threads: int
    descriptors: int


def workers(gateway: Gateway) -> list[int]:
    """The processes that serve associations."""
    return [pid for pid in gateway.family() if "scp.worker" in processes.cmdline(pid)]


def resources(gateway: Gateway) -> dict[int, Resources]:
    """What supervisor and workers hold now."""
    pids = [gateway.pid, *workers(gateway)]
    return {pid: Resources(processes.threads(pid), len(processes.open_fds(pid))) for pid in pids}


def wait_for_resources(gateway: Gateway, expected: dict[int, Resources]) -> None:
    """Waits until the same processes hold what they held."""
    processes.wait_until(
        lambda: resources(gateway) == expected,
        DEADLINE_S,
        lambda: f"{resources(gateway)} instead of {expected}",
    )


def half_received(gateway: Gateway) -> list[str]:
    """Files in spool/incoming besides the locks of the writers."""
    incoming = gateway.state_directory / "spool" / "incoming"
    return [str(path) for path in incoming.rglob("*") if path.is_file() and path.name != "lock"]


def spooled(gateway: Gateway) -> list[str]:
    """Names of the files in spool/ready."""
    return sorted(path.name for path in (gateway.state_directory / "spool" / "ready").iterdir())


def warm_up(gateway: Gateway) -> None:
    """Lets each worker serve and open what it opens only once; returns when all is quiet."""
    wait_until_all_serve(gateway)
    wait_until_quiet(gateway)


def wait_until_quiet(gateway: Gateway) -> None:
    """Returns when no process opens or closes anything any more."""
    # The workers connect to the forwarder when it listens, and look for it every RECONNECT_DELAY_S.
    processes.wait_until((gateway.state_directory / SOCKET_NAME).exists, DEADLINE_S, "the forwarder does not listen")
    quiet: list[dict[int, Resources]] = []

    def settled() -> bool:
        quiet.append(resources(gateway))
        return len(quiet) >= READINGS and all(each == quiet[-1] for each in quiet[-READINGS:])

    processes.wait_until(settled, DEADLINE_S, "threads and descriptors do not settle")


def wait_until_all_serve(gateway: Gateway) -> None:
    """Sends instances on associations side by side until each worker has received one."""
    count = gateway.configuration["DicomGateway"]["Workers"]
    processes.wait_until(lambda: len(workers(gateway)) == count, DEADLINE_S, "not all workers are there")
    idle = set(workers(gateway))
    deadline = time.monotonic() + DEADLINE_S
    while idle:
        assert time.monotonic() < deadline, f"workers {idle} receive nothing"
        with ExitStack() as stack:
            for _ in range(2 * WORKERS):
                peer = stack.enter_context(RawPeer(gateway.dicom_port))
                peer.associate()
                assert peer.store("2.25.101").status == 0
        # The names of spooled files have the process in them.
        idle -= {int(name.split("-")[1]) for name in spooled(gateway)}


class Log:
    """What the gateway has logged since this was made."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._start = len(gateway.log_text())

    def expect(self, *fragments: str) -> str:
        """The first line with all of `fragments`, once it is there."""

        def find() -> str:
            lines = self._gateway.log_text()[self._start :].splitlines()
            return next((line for line in lines if all(fragment in line for fragment in fragments)), "")

        return processes.wait_until(find, DEADLINE_S, lambda: f"no log line with {fragments}")
