"""The supervisor: owns the listening socket, starts and replaces the processes, stops them in order.

One thread, one selector. A worker that dies or does not answer is replaced; the forwarder likewise. Inside Orthanc the
glue holds the other end of the control socket: when it closes, Orthanc is dead and everything ends at once.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway import child
from gateway.archive.index.file import discard
from gateway.checks.requirements import FatalError, check_requirements
from gateway.child import Settings
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.options.orthanc_json import ConfigurationError
from gateway.quotas.identity import gateway_identity
from gateway.spool import Spool, SpoolError, state_directory_lock
from gateway.supervisor.dicom_port import DicomPort
from gateway.supervisor.listening import open_listener

if TYPE_CHECKING:
    from gateway.database import Database

MAXIMUM_MESSAGE_BYTES: Final = 4096

PING_INTERVAL_S: Final = 5.0
# A worker whose main thread is silent for so long is stuck.
PING_TIMEOUT_S: Final = 30.0

FIRST_RESTART_DELAY_S: Final = 0.2
LAST_RESTART_DELAY_S: Final = 30.0
# A process that lived so long starts again without delay.
HEALTHY_LIFE_S: Final = 60.0

# Writers of a supervisor that died end within moments of it; recovery waits for their locks.
ORPHAN_TIMEOUT_S: Final = 10.0
WORKER_END_GRACE_S: Final = 5.0
SERVICE_END_GRACE_S: Final = 12.0

EXIT_FATAL: Final = 3


@dataclass
class Process:
    """A child that must always run."""

    name: str
    start: Callable[["Process"], None]
    popen: subprocess.Popen[bytes] | None = None
    pidfd: int | None = None
    control: socket.socket | None = None
    ready: bool = False
    failures: int = 0
    started_at: float = 0.0
    restart_at: float | None = None
    last_pong: float = field(default_factory=time.monotonic)


class Supervisor:
    """One gateway."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._settings = settings
        self._configuration = configuration
        self._log = get_logger()
        self._selector = selectors.DefaultSelector()
        self._port = DicomPort(configuration)
        self._accepting = False
        self._stopping = False
        self._orthanc_died = False
        self._announced = False
        self._glue = socket.socket(fileno=settings.control_fd) if settings.control_fd is not None else None
        self._wakeup, self._signals = socket.socketpair()
        self._next_ping = time.monotonic() + PING_INTERVAL_S
        self._workers = [Process(f"scp worker {n}", self._start_worker) for n in range(1, configuration.workers + 1)]
        self._forwarder = Process("forwarder", self._start_forwarder)
        self._services = [self._forwarder]
        if configuration.gateway.quotas.counts:
            self._services.insert(0, Process("quotas", self._start_quotas))
        if configuration.worklist is not None:
            self._services.append(Process("worklist", self._start_worklist))
        if configuration.script is not None:
            self._services.append(Process("script", self._start_script))
        if configuration.storage_commitment is not None:
            self._services.append(Process("storage commitment", self._start_storage_commitment))
        self._hl7_port: socket.socket | None = None
        self._hl7 = Process("hl7", self._start_hl7)
        if configuration.gateway.hl7 is not None:
            self._services.append(self._hl7)
            if configuration.gateway.hl7.receivers:
                self._services.append(Process("hl7 sender", self._start_hl7_sender))

    def run(self) -> None:
        """Serve until told to stop. Raises FatalError when it cannot start."""
        try:
            with state_directory_lock(self._configuration.state_directory):
                self._recover()
                self._migrate()
                self._listen()
                self._watch_signals()
                if self._glue is not None:
                    self._selector.register(self._glue, selectors.EVENT_READ, self._on_glue)
                for process in (*self._services, *self._workers):
                    process.start(process)
                while not self._stopping:
                    self._step()
                self._stop()
        except SpoolError as error:
            raise FatalError(str(error)) from error

    def _recover(self) -> None:
        spool = Spool(self._configuration.state_directory)
        spool.prepare()
        discard(self._configuration.state_directory)
        deadline = time.monotonic() + ORPHAN_TIMEOUT_S
        while (alive := spool.live_writers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if alive:
            self._log.error("a process of an earlier gateway still receives; its files are left alone", writers=alive)
        removed = spool.recover()
        if removed:
            self._log.info("removed what was half received when the gateway last ended", files=removed)

    def _migrate(self) -> None:
        """Bring the tables to this version, if anything needs a database, and make our name in them."""
        if not self._configuration.needs_database:
            return
        # Imported here: who needs no database does not pay for it with time and memory.
        from gateway import database

        try:
            # Made here: processes that start side by side would each make one.
            gateway_identity(self._configuration.state_directory)
            books = database.connect(self._configuration)
            database.migrate(books)
            self._tell_receivers(books)
            books.close()
        except (database.DatabaseError, OSError) as error:
            raise FatalError(f"cannot use the database: {error}") from error

    def _tell_receivers(self, books: "Database") -> None:
        """Whatever starts after this finds in the database who wants to hear of it."""
        if self._configuration.worklist is None:
            return
        from worklist.feedback import receivers

        section = self._configuration.gateway.hl7
        identity = gateway_identity(self._configuration.state_directory)
        receivers.tell(books, identity, section.receivers if section is not None else [], time.time_ns())

    def _listen(self) -> None:
        self._port.listen()
        section = self._configuration.gateway.hl7
        if section is not None:
            self._hl7_port = open_listener("HL7", section.host, section.port)

    def _watch_signals(self) -> None:
        self._wakeup.setblocking(False)
        self._signals.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signal)

    def _step(self) -> None:
        for key, _events in self._selector.select(self._wait_time()):
            key.data()
        self._port.settle(self._workers)
        now = time.monotonic()
        for process in (*self._services, *self._workers):
            if process.restart_at is not None and process.restart_at <= now:
                process.restart_at = None
                process.start(process)
        if now >= self._next_ping:
            self._next_ping = now + PING_INTERVAL_S
            self._ping(now)
            self._port.summarise()

    def _wait_time(self) -> float:
        now = time.monotonic()
        dues = [self._next_ping, *([] if self._port.due is None else [self._port.due])]
        dues += [p.restart_at for p in (*self._services, *self._workers) if p.restart_at is not None]
        return max(0.0, min(dues) - now)

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(64)
        self._stopping = True

    def _on_glue(self) -> None:
        if self._glue is None:
            return
        data = self._glue.recv(MAXIMUM_MESSAGE_BYTES)
        if not data:
            self._orthanc_died = True
        self._stopping = True

    def _tell_glue(self, message: dict[str, Any]) -> None:
        if self._glue is not None:
            with contextlib.suppress(OSError):
                self._glue.send(json.dumps(message).encode() + b"\n")

    def _start_worker(self, process: Process) -> None:
        control = self._start_with_control(process, "scp.worker", [])
        process.ready, process.last_pong = False, time.monotonic()
        self._selector.register(control, selectors.EVENT_READ, lambda: self._on_worker(process))

    def _start_forwarder(self, process: Process) -> None:
        post_fd = self._settings.post_fd
        self._start_with_control(process, "gateway.forwarding", [] if post_fd is None else [post_fd])

    def _start_quotas(self, process: Process) -> None:
        changes_fd = self._settings.changes_fd
        self._start_with_control(process, "gateway.quotas", [] if changes_fd is None else [changes_fd])

    def _start_worklist(self, process: Process) -> None:
        studies_fd = self._settings.studies_fd
        self._start_with_control(process, "worklist", [] if studies_fd is None else [studies_fd])

    def _start_script(self, process: Process) -> None:
        events_fd = self._settings.events_fd
        self._start_with_control(process, "gateway.script_host", [] if events_fd is None else [events_fd])

    def _start_storage_commitment(self, process: Process) -> None:
        self._start_with_control(process, "scp.commitment_reporter", [])

    def _start_hl7(self, process: Process) -> None:
        if self._hl7_port is not None:
            port = self._hl7_port.fileno()
            self._start_with_control(process, "worklist.hl7", [port], [str(port)])

    def _start_hl7_sender(self, process: Process) -> None:
        self._start_with_control(process, "worklist.feedback", [])

    def _start_with_control(
        self, process: Process, module: str, fds: list[int], arguments: Sequence[str] = ()
    ) -> socket.socket:
        """Start a child that ends when the socket closes of which it gets the other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._start(process, module, [str(theirs.fileno()), *arguments], [theirs.fileno(), *fds])
        process.control = ours
        return ours

    def _start(self, process: Process, module: str, arguments: list[str], fds: list[int]) -> None:
        process.popen = child.start(module, self._settings, arguments, fds)
        process.started_at = time.monotonic()
        process.pidfd = os.pidfd_open(process.popen.pid)
        self._selector.register(process.pidfd, selectors.EVENT_READ, lambda: self._on_exit(process))
        self._log.debug("started", name=process.name, pid=process.popen.pid)

    def _on_worker(self, process: Process) -> None:
        if process.control is None:
            return
        try:
            packet = process.control.recv(MAXIMUM_MESSAGE_BYTES)
        except OSError:
            packet = b""
        if not packet:
            self._drop_control(process)
            return
        message = json.loads(packet)
        if "ended" in message:
            self._port.ended(int(message["ended"]))
        elif "ready" in message:
            process.ready = True
            self._accept_while_served()
        process.last_pong = time.monotonic()

    def _drop_control(self, process: Process) -> None:
        if process.control is not None:
            with contextlib.suppress(KeyError):  # that of a service is not listened to
                self._selector.unregister(process.control)
            process.control.close()
            process.control = None
            process.ready = False
            self._port.lost(process)
            self._accept_while_served()

    def _on_exit(self, process: Process) -> None:
        status = self._reap(process)
        self._drop_control(process)
        lived = time.monotonic() - process.started_at
        process.failures = 1 if lived > HEALTHY_LIFE_S else process.failures + 1
        delay = min(LAST_RESTART_DELAY_S, FIRST_RESTART_DELAY_S * 2 ** (process.failures - 1))
        process.restart_at = time.monotonic() + delay
        self._log.error("process ended and is started again", name=process.name, status=status, delay=delay)
        if process.popen is not None:
            self._remove_half_received(process.popen.pid)

    def _remove_half_received(self, pid: int) -> None:
        """What a process that ended had not acknowledged is not kept until the next start: it can be large."""
        try:
            Spool(self._configuration.state_directory).recover(pid)
        except OSError as error:
            self._log.error("cannot remove what was half received", reason=str(error))

    def _reap(self, process: Process) -> int | None:
        if process.pidfd is not None:
            self._selector.unregister(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = None
        return process.popen.wait() if process.popen is not None else None

    def _accept_while_served(self) -> None:
        """Connections wait in the kernel's queue while no worker can take them."""
        wanted = any(worker.ready for worker in self._workers) and not self._stopping
        listener = self._port.listener
        if listener is None or wanted == self._accepting:
            return
        if wanted:
            self._selector.register(listener, selectors.EVENT_READ, lambda: self._port.accept(self._workers))
            if not self._announced:
                self._announced = True
                options = self._configuration.orthanc
                text = f"listening with AE title {options.dicom_aet} on port {options.dicom_port}"
                if self._glue is None:
                    self._log.info(text, workers=len(self._workers))
                else:
                    self._tell_glue({"state": "ready", "text": text})
        else:
            self._selector.unregister(listener)
        self._accepting = wanted

    def _ping(self, now: float) -> None:
        for worker in self._workers:
            if worker.control is None or worker.popen is None:
                continue
            if now - worker.last_pong > PING_TIMEOUT_S:
                self._log.error("process does not answer and is killed", name=worker.name)
                worker.popen.kill()
                continue
            with contextlib.suppress(OSError):
                worker.control.send(b'{"ping": 1}', socket.MSG_DONTWAIT)

    def _stop(self) -> None:
        """Stop listening, let associations finish, abort the rest, let the forwarder finish what it sends."""
        self._accept_while_served()
        self._port.close()
        if self._hl7_port is not None:
            self._hl7_port.close()
        if self._orthanc_died:
            self._log.error("Orthanc is gone: the gateway ends")
            self._kill_all()
            return
        seconds = self._configuration.gateway.shutdown_timeout
        self._log.info("stopping: no new associations", timeout=seconds)
        self._tell_to_stop(self._hl7)  # while the associations finish, not after them
        for worker in self._workers:
            if worker.control is not None:
                with contextlib.suppress(OSError):
                    worker.control.send(json.dumps({"drain": seconds}).encode())
        deadline = time.monotonic() + seconds + WORKER_END_GRACE_S
        for worker in self._workers:
            self._wait(worker, deadline)
        for service in reversed(self._services):
            if service.control is not None:
                self._tell_to_stop(service)
                self._wait(service, time.monotonic() + SERVICE_END_GRACE_S)
        self._log.info("stopped")

    def _tell_to_stop(self, service: Process) -> None:
        if service.control is not None:
            with contextlib.suppress(OSError):
                service.control.send(b"stop")

    def _wait(self, process: Process, deadline: float) -> None:
        if process.popen is None:
            return
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._log.error("process does not end and is killed", name=process.name)
            process.popen.kill()
            process.popen.wait()

    def _kill_all(self) -> None:
        for process in (*self._workers, *self._services):
            if process.popen is not None:
                process.popen.kill()
                process.popen.wait()


def serve(settings: Settings) -> int:
    """Run a gateway until it is stopped; return the exit status of the process."""
    try:
        configuration = settings.configuration()
        settings.configure_log(configuration, "gateway")
        check_requirements(settings, configuration)
        Supervisor(settings, configuration).run()
    except (FatalError, ConfigurationError) as error:
        _report_fatal(settings, str(error))
        return EXIT_FATAL
    return 0


def _report_fatal(settings: Settings, reason: str) -> None:
    if settings.control_fd is None:
        print(f"dicom-gateway: {reason}", file=sys.stderr)
        return
    with socket.socket(fileno=os.dup(settings.control_fd)) as glue, contextlib.suppress(OSError):
        glue.send(json.dumps({"state": "fatal", "reason": reason}).encode() + b"\n")
