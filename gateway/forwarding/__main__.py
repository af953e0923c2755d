"""The forwarder's process: the socket for workers, the sender threads, the signal to stop, the list of modalities.

Started by the supervisor as `python -I -m gateway.forwarding CONTROL_FD`, settings on standard input. A byte on the
control socket means stop; its end means that the supervisor is dead, and the forwarder ends at once.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.child import Settings, begin, end_by_errors, until_stopped
from gateway.deliveries import MAXIMUM_MESSAGE_BYTES, SOCKET_NAME, Result, Wanted
from gateway.forwarding.barriers import Barriers
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.refused import RefusedInstances
from gateway.forwarding.routes import Routes
from gateway.forwarding.set_up import Running, destinations
from gateway.log import get_logger
from gateway.modalities_refresh import ModalitiesRefresh
from gateway.options.config import Configuration
from gateway.quotas.gate import Gate
from gateway.script_host.client import ScriptClient
from gateway.spool import Delivery, Spool

# Sending has time until the next instance is received: receiving comes first.
NICENESS: Final = 5
STOP_TIMEOUT_S: Final = 10.0


class Listener:
    """Accepts the connections of workers (gateway.deliveries) and tells them outcomes."""

    def __init__(self, address: Path, spool: Spool) -> None:
        self._spool = spool
        self._wanted: dict[Path, socket.socket] = {}
        self._lock = threading.Lock()
        self._log = get_logger()
        address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(address))
        address.chmod(0o600)
        self._socket.listen(128)

    def run(self, routes: Routes, barriers: Barriers) -> None:
        """Accept for ever."""
        while True:
            connection, _address = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection, routes, barriers), daemon=True).start()

    def on_outcome(self, path: Path, result: Result, reason: str) -> None:
        """Tell the worker that waits for `path`, if one does."""
        with self._lock:
            connection = self._wanted.pop(path, None)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.send(json.dumps({"outcome": str(path), "result": result, "reason": reason}).encode())

    def _serve(self, connection: socket.socket, routes: Routes, barriers: Barriers) -> None:
        barriers.join(connection)
        try:
            while packet := connection.recv(MAXIMUM_MESSAGE_BYTES):
                message = json.loads(packet)
                if not _handle_barrier(message, connection, barriers):
                    self._handle(message, connection, routes, barriers)
        except (OSError, ValueError) as error:  # ValueError: a message that was cut off
            self._log.warning("lost a worker", reason=str(error))
        finally:
            with self._lock:
                orphans = [path for path, owner in self._wanted.items() if owner is connection]
                for path in orphans:
                    del self._wanted[path]
            for path in orphans:
                routes.withdraw(path)
            routes.rescan()
            barriers.leave(connection)
            connection.close()

    def _handle(self, message: dict[str, Any], connection: socket.socket, routes: Routes, barriers: Barriers) -> None:
        if "ready" in message:
            routes.add(_delivery(self._spool.ready / message["ready"], message))
        elif "deliver" in message:
            path = Path(message["deliver"])
            with self._lock:
                self._wanted[path] = connection
            routes.add(_delivery(path, message), urgent=True)
        elif "withdraw" in message:
            routes.withdraw(Path(message["withdraw"]))
        elif "rescan" in message:
            routes.rescan()
        elif "receives" in message:
            barriers.receives(connection)


def _handle_barrier(message: dict[str, Any], connection: socket.socket, barriers: Barriers) -> bool:
    """Whether the message was about barriers."""
    if "barrier" in message:
        barriers.ask(connection, message["barrier"], Wanted.from_json(message["wanted"]), message["lists"])
    elif "missing" in message:
        barriers.say_missing(connection, message["missing"], message["from"])
    elif "forget" in message:
        barriers.forget(connection, message["forget"])
    elif "flushed" in message:
        barriers.flushed(connection, message["flushed"])
    else:
        return False
    return True


def _delivery(path: Path, message: dict[str, Any]) -> Delivery:
    return Delivery(
        path,
        int(message["size"]),
        str(message["sop"]),
        str(message["id"]),
        patient_id=str(message.get("patient", "")),
        study_instance_uid=str(message.get("study", "")),
        series_instance_uid=str(message.get("series", "")),
        accession_number=str(message.get("accession", "")),
    )


def main() -> None:
    """Entry point."""
    control, settings, configuration = begin("forwarder")
    end_by_errors("the forwarder")  # the spool is the truth
    os.nice(NICENESS)
    section = configuration.gateway.forwarding
    spool = Spool(configuration.state_directory)
    listener = Listener(configuration.state_directory / SOCKET_NAME, spool)

    def on_outcome(path: Path, result: Result, reason: str) -> None:
        listener.on_outcome(path, result, reason)
        if result == "refused":
            refused.add(path.name)
        barriers.ended(path)

    may_leave = Gate(configuration.state_directory).may_leave if configuration.gateway.quotas.counts else None
    kept = KeptDeliveries(spool, section, may_leave)
    received = ReceivedInstances(spool, _script(settings, configuration))
    running = destinations(settings, configuration, spool, on_outcome, kept, received)
    routes = Routes(
        spool, {title: one.destination for title, one in running.items()}, configuration.server_title, on_outcome
    )
    refused = RefusedInstances(spool)
    barriers = Barriers(
        routes.queue_of,
        spool.ready,
        refused,
        receivers=configuration.workers,
        rescan=routes.rescan,
        may_change=lambda: settings.is_changed_on_arrival or received.may_change,
    )
    threads = [threading.Thread(target=loop, daemon=True) for one in running.values() for loop in one.loops]
    for thread in threads:
        thread.start()
    threading.Thread(target=listener.run, args=(routes, barriers), daemon=True).start()
    threading.Thread(target=_start_up, args=(routes, refused, barriers, kept, running), daemon=True).start()
    if configuration.refreshes_modalities:
        where = endpoint(settings, configuration)
        refresh = ModalitiesRefresh(configuration, where, in_orthanc=settings.in_orthanc)
        threading.Thread(target=refresh.run, daemon=True).start()
    if not until_stopped(control):
        os._exit(1)
    kept.stop()
    for one in running.values():
        one.destination.stop()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    os._exit(0)


def _script(settings: Settings, configuration: Configuration) -> ScriptClient | None:
    """Who says what is to be sent. Inside Orthanc it asks itself, of instances of every origin."""
    if configuration.script is None or settings.in_orthanc:
        return None
    return ScriptClient(configuration.state_directory, configuration.gateway.script_options)


def _start_up(
    routes: Routes,
    refused: RefusedInstances,
    barriers: Barriers,
    kept: KeptDeliveries,
    running: Mapping[str, Running],
) -> None:
    routes.rescan()
    refused.load()
    barriers.complete()
    delivered = routes.delivered()
    for title, one in running.items():
        threading.Thread(target=one.check, args=(delivered.pop(title, []),), daemon=True).start()
    routes.keep(kept, delivered)


if __name__ == "__main__":
    main()
