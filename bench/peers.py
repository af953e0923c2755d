"""The servers that are compared, each started fresh, with its state in a folder of its own."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from bench.client import VERIFICATION, Association, AssociationFailed, association_request
from bench.machine import free_port, program
from bench.processes import still_there, tree

REPOSITORY = Path(__file__).resolve().parent.parent
ORTHANC_PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
ORTHANC_WORKLIST_PLUGIN = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")
GATEWAY_DATABASE = "gateway.sqlite"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.005
CHANGE_INTERVAL_S = 0.05
LOG_TAIL_LINES = 8
CALLED_AE_TITLE = "ORTHANC"


@dataclass(frozen=True)
class Setting:
    """What a server starts with that is not default.

    `origin` are options of the DICOMweb server behind a proxy; `receiver_port` is where the server finds the
    destination of C-MOVE, `hl7_port` where a gateway takes orders;
    `worklist` is a folder of .wl files and `gateway_database` makes a database with the same items.
    """

    orthanc: Mapping[str, object] = field(default_factory=dict)
    gateway: Mapping[str, object] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    receiver_port: int = 0
    hl7_port: int = 0
    worklist: Path | None = None
    gateway_database: Callable[[], Path] | None = None


class PeerFailed(RuntimeError):
    """A server did not start, ended by itself, or did not get what was sent to it."""


class Peer:
    """A running server. `count` says how many instances it holds.

    Used as a context manager: entering starts the server and returns when it answers a C-ECHO (PeerFailed
    if it does not), leaving stops it and everything that it started.
    """

    def __init__(self, folder: Path, setting: Setting, command: list[str], dicom_port: int, nodelay: bool) -> None:
        self.dicom_port = dicom_port
        self.setting = setting
        self._folder = folder
        self._command = command
        self._environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        if nodelay:
            self._environment["TCP_NODELAY"] = "1"

    def count(self) -> int:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        request = association_request([VERIFICATION])
        while True:
            try:
                with Association(self.dicom_port, request, timeout_s=5.0) as association:
                    association.echo()
                    association.release()
                self.count()
                return
            except (AssociationFailed, OSError, http.client.HTTPException) as error:
                if self._process.poll() is not None:
                    raise PeerFailed(self.condition()) from error
                if time.monotonic() > deadline:
                    raise PeerFailed(f"does not answer: {error}; {self.condition()}") from error
                time.sleep(0.05)

    def wait_for_count(self, expected: int, timeout_s: float) -> float:
        """The time (time.time) at which the server was first seen to hold `expected` instances.

        Raises PeerFailed when `timeout_s` has passed without it.
        """
        deadline = time.monotonic() + timeout_s
        while (count := self.count()) < expected:
            if time.monotonic() > deadline:
                raise PeerFailed(f"holds {count} of {expected} instances after {timeout_s:.0f} s")
            time.sleep(POLL_INTERVAL_S)
        now = time.time()
        if count > expected:
            raise PeerFailed(f"holds {count} instances, {expected} were sent")
        return now

    def condition(self) -> str:
        """For the message of a failure: whether the server still runs, and the end of its log."""
        status = self._process.poll()
        life = "the server runs" if status is None else f"the server ended with status {status}"
        lines = (self._folder / "log").read_text(errors="replace").splitlines()
        return f"{life}; its log ends with: {' | '.join(lines[-LOG_TAIL_LINES:])}"

    def _stop(self) -> None:
        started_by_it = [stat for stat in tree(self.pid) if stat.pid != self.pid]
        if started_by_it:
            self._process.terminate()
        else:  # nothing of it is needed any more, and Orthanc takes seconds to say goodbye
            self._process.kill()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stat in still_there(started_by_it):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, signal.SIGKILL)


class OrthancPeer(Peer):
    """Orthanc with its default options, its own DICOM server on, or replaced by this gateway with these options."""

    def __init__(
        self,
        folder: Path,
        setting: Setting,
        *,
        nodelay: bool = False,
        gateway: Mapping[str, object] | None = None,
        serves_files: bool = False,
    ) -> None:
        self.http_port, dicom_port = free_port(), free_port()
        self.gateway_database = folder / "gateway" / GATEWAY_DATABASE
        options: dict[str, object] = {
            "Name": "Bench",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "HttpPort": self.http_port,
            "DicomAet": CALLED_AE_TITLE,
            "DicomPort": dicom_port,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowFindWorklist": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "Plugins": [],
            **setting.orthanc,
        }
        if setting.worklist is not None and gateway is None:
            options["Plugins"] = [str(ORTHANC_WORKLIST_PLUGIN)]
        if setting.worklist is not None and (gateway is None or serves_files):
            options["Worklists"] = {"Enable": True, "Database": str(setting.worklist)}
        if gateway is not None:
            state = self.gateway_database.parent
            state.mkdir(mode=0o700)
            if setting.gateway_database is not None and not serves_files:
                _copy_database(setting.gateway_database(), self.gateway_database)
            options |= {
                "DicomServerEnabled": False,
                "Plugins": [str(ORTHANC_PYTHON_PLUGIN)],
                "PythonScript": str(REPOSITORY / "orthanc_glue.py"),
                "DicomGateway": {"StateDirectory": str(state), "VirtualEnv": sys.prefix, **setting.gateway, **gateway},
            }
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(json.dumps(options, indent=2))
        super().__init__(folder, setting, [program("Orthanc"), str(self.configuration)], dicom_port, nodelay)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)

    def count(self) -> int:
        # One connection for all polls and no client library: a poll must not cost the machine much.
        try:
            return self._ask()
        except (OSError, http.client.HTTPException):
            # Orthanc closes a connection that was silent for a second; the next request opens another.
            self._connection.close()
            return self._ask()

    def _ask(self) -> int:
        self._connection.request("GET", "/statistics")
        return int(json.loads(self._connection.getresponse().read())["CountInstances"])

    def post(self, part10: bytes, connection: http.client.HTTPConnection) -> None:
        """Store an instance over REST. Raises PeerFailed."""
        connection.request("POST", "/instances", body=part10)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise PeerFailed(f"POST /instances: {response.status} {answer[:200].decode(errors='replace')}")

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Metadata of a patient is written again and again meanwhile: answers cannot be those of a moment ago."""
        done = threading.Event()
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)

        def request(method: str, uri: str, body: str | None = None) -> bytes:
            connection.request(method, uri, body)
            return connection.getresponse().read()

        (patient,) = json.loads(request("GET", "/patients?since=0&limit=1"))

        def change() -> None:
            while not done.wait(CHANGE_INTERVAL_S):
                request("PUT", f"/patients/{patient}/metadata/1024", "x")

        thread = threading.Thread(target=change)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            connection.close()

    def _stop(self) -> None:
        self._connection.close()
        super()._stop()


class StorescpPeer(Peer):
    """DCMTK's storescp: writes each instance to a file without flushing it, one process per association."""

    def __init__(self, folder: Path, setting: Setting, *, nodelay: bool = False) -> None:
        self._received = folder / "received"
        self._received.mkdir()
        port = free_port()
        command = [program("storescp"), "--fork", "--output-directory", str(self._received), str(port)]
        super().__init__(folder, setting, command, port, nodelay)

    def count(self) -> int:
        return sum(1 for _ in os.scandir(self._received))


class WlmscpfsPeer(Peer):
    """DCMTK's worklist server, which reads all .wl files for each query, in a process for each association."""

    def __init__(self, folder: Path, setting: Setting, *, nodelay: bool = False) -> None:
        if setting.worklist is None:
            raise PeerFailed("wlmscpfs needs .wl files")
        port = free_port()
        command = [program("wlmscpfs"), "--data-files-path", str(setting.worklist.parent), str(port)]
        super().__init__(folder, setting, command, port, nodelay)

    def count(self) -> int:
        return 0


def _copy_database(source: Path, target: Path) -> None:
    """Copy SQLite's files; nobody has them open."""
    for path in source.parent.glob(f"{source.name}*"):
        shutil.copy(path, target.parent)


@dataclass(frozen=True)
class Kind:
    """A server to compare. `nagle`: it leaves Nagle's algorithm on, which costs 40 ms an instance."""

    start: Callable[[Path, Setting], Peer]
    description: str
    nagle: bool = False


PEERS = {
    "orthanc": Kind(OrthancPeer, "Orthanc's built-in SCP as Debian ships it", nagle=True),
    "orthanc-nd": Kind(partial(OrthancPeer, nodelay=True), "orthanc with `TCP_NODELAY=1` in its environment"),
    "orthanc-nd-again": Kind(
        partial(OrthancPeer, nodelay=True), "orthanc-nd measured a second time in each round: the machine's noise"
    ),
    "storescp": Kind(StorescpPeer, "DCMTK's `storescp --fork`, which writes files but flushes nothing", nagle=True),
    "storescp-nd": Kind(partial(StorescpPeer, nodelay=True), "storescp with `TCP_NODELAY=1` in its environment"),
    "wlmscpfs-nd": Kind(partial(WlmscpfsPeer, nodelay=True), "DCMTK's `wlmscpfs` with `TCP_NODELAY=1`"),
    "gateway": Kind(partial(OrthancPeer, gateway={}), "this gateway inside Orthanc, default options"),
    "gateway-files": Kind(
        partial(OrthancPeer, gateway={}, serves_files=True), "the gateway, its worklist a folder of .wl files"
    ),
    "gateway-plugin": Kind(
        partial(OrthancPeer, gateway={"Forwarding": {"Transport": "Plugin"}}), 'the gateway with transport "Plugin"'
    ),
}


VARIANTS: list[str] = []


def add_variant(name: str, section: dict[str, object]) -> None:
    """Add a peer: the gateway with these options in the section DicomGateway."""
    description = f"the gateway with `{json.dumps(section)}`"
    PEERS[name] = Kind(partial(OrthancPeer, gateway=section), description)
    VARIANTS.append(name)
