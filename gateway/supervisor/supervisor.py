"""The supervisor: owns the listening socket, starts and replaces the processes, stops them in order.

One thread, one selector. A process that dies or does not answer is replaced. Inside Orthanc the
glue holds the other end of the control socket: when it closes, Orthanc is dead and everything ends at once.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from gateway.checks.requirements import FatalError, check_requirements
from gateway.child import Settings
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.options.orthanc_json import ConfigurationError
from gateway.spool import Spool, SpoolError, state_directory_lock
from gateway.supervisor.dicom_port import DicomPort
from gateway.supervisor.listening import open_listener
from gateway.supervisor.preparation import migrate, recover
from gateway.supervisor.process import PING_INTERVAL_S, Process
from gateway.supervisor.services import services, workers

MAXIMUM_MESSAGE_BYTES: Final = 4096
# What a service is told; each ends in its own way.
STOP: Final = b"stop"

WORKER_END_GRACE_S: Final = 5.0
SERVICE_END_GRACE_S: Final = 12.0

EXIT_FATAL: Final = 3


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
        self._hl7_port: socket.socket | None = None
        self._workers = workers(configuration)
        self._services: list[Process] = []

    def run(self) -> None:
        """Serve until told to stop. Raises FatalError when it cannot start."""
        try:
            with state_directory_lock(self._configuration.state_directory):
                recover(self._configuration)
                migrate(self._configuration)
                self._listen()
                self._watch_signals()
                if self._glue is not None:
                    self._selector.register(self._glue, selectors.EVENT_READ, self._on_glue)
                for process in self._processes:
                    self._start(process)
                while not self._stopping:
                    self._step()
                self._stop()
        except SpoolError as error:
            raise FatalError(str(error)) from error

    def _listen(self) -> None:
        self._port.listen()
        section = self._configuration.gateway.hl7
        if section is not None:
            self._hl7_port = open_listener("HL7", section.host, section.port)
        hl7_port = self._hl7_port.fileno() if self._hl7_port is not None else None
        self._services = services(self._settings, self._configuration, hl7_port)

    @property
    def _processes(self) -> list[Process]:
        return [*self._services, *self._workers]

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
        for process in self._processes:
            if process.restart_at is not None and process.restart_at <= now:
                self._start(process)
        if now >= self._next_ping:
            self._next_ping = now + PING_INTERVAL_S
            self._ping()
            self._port.summarise()

    def _wait_time(self) -> float:
        now = time.monotonic()
        dues = [self._next_ping, *([] if self._port.due is None else [self._port.due])]
        dues += [process.restart_at for process in self._processes if process.restart_at is not None]
        return max(0.0, min(dues) - now)

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(64)
        self._stopping = True

    def _on_glue(self) -> None:
        if self._glue is None:
            return
        data = b""
        with contextlib.suppress(ConnectionResetError):  # it ended before it had read all that we said
            data = self._glue.recv(MAXIMUM_MESSAGE_BYTES)
        if not data:
            self._orthanc_died = True
        self._stopping = True

    def _tell_glue(self, message: dict[str, Any]) -> None:
        if self._glue is not None:
            with contextlib.suppress(OSError):
                self._glue.send(json.dumps(message).encode() + b"\n")

    def _start(self, process: Process) -> None:
        try:
            end, control = process.start(self._settings)
        except OSError as error:  # no memory, no process number, no descriptor: for now
            delay = process.start_later()
            self._log.error("cannot start a process", name=process.name, reason=str(error), delay=delay)
            return
        self._selector.register(end, selectors.EVENT_READ, lambda: self._on_exit(process))
        self._selector.register(control, selectors.EVENT_READ, lambda: self._on_message(process))

    def _on_message(self, process: Process) -> None:
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
        process.unanswered = 0

    def _drop_control(self, process: Process) -> None:
        if process.control is not None:
            self._selector.unregister(process.control)
            process.control.close()
            process.control = None
            process.ready = False
            self._port.lost(process)
            self._accept_while_served()

    def _on_exit(self, process: Process) -> None:
        if process.pidfd is not None:
            self._selector.unregister(process.pidfd)
        status, delay = process.ended()
        self._drop_control(process)
        self._log.error("process ended and is started again", name=process.name, status=status, delay=delay)
        if process.popen is not None:
            self._remove_half_received(process.popen.pid)

    def _remove_half_received(self, pid: int) -> None:
        """What a process that ended had not acknowledged is not kept until the next start: it can be large."""
        try:
            Spool(self._configuration.state_directory).recover(pid)
        except OSError as error:
            self._log.error("cannot remove what was half received", reason=str(error))

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

    def _ping(self) -> None:
        for process in self._processes:
            if process.control is None or process.popen is None:
                continue
            if not process.ping():
                self._log.error("process does not answer and is killed", name=process.name)
                process.popen.kill()

    def _stop(self) -> None:
        """Stop listening, let associations finish, abort the rest, let the forwarder finish what it sends."""
        self._accept_while_served()
        self._port.close()
        if self._hl7_port is not None:
            self._hl7_port.close()
        if self._orthanc_died:
            self._log.error("Orthanc is gone: the gateway ends")
            for process in (*self._workers, *self._services):
                process.kill()
            return
        seconds = self._configuration.gateway.shutdown_timeout
        self._log.info("stopping: no new associations", timeout=seconds)
        for service in self._services:
            if service.stops_first:
                service.tell(STOP)
        for worker in self._workers:
            worker.tell(json.dumps({"drain": seconds}).encode())
        deadline = time.monotonic() + seconds + WORKER_END_GRACE_S
        for worker in self._workers:
            worker.wait(deadline)
        for service in reversed(self._services):
            if service.control is not None:
                service.tell(STOP)
                service.wait(time.monotonic() + SERVICE_END_GRACE_S)
        self._log.info("stopped")


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
