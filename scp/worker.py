"""A process that serves associations: takes connections from the supervisor, one thread each.

The supervisor's socket (SOCK_SEQPACKET) carries {"connection": ADDRESS, "number": N, "over_limit": BOOLEAN} with the
connection's descriptor, {"ping": N} and {"drain": SECONDS}; the worker says {"ready": true}, {"pong": N} and {"ended":
NUMBER}. When the socket closes, the supervisor is dead and the worker ends at once: what it was receiving was not
acknowledged.
"""

import contextlib
import gc
import json
import os
import resource
import socket
import time
from typing import Any, Final

from gateway.archive.set_up import archives
from gateway.child import begin
from gateway.deliveries import DeliveryClient
from gateway.log import get_logger
from gateway.moves.site_drivers import move_drivers
from gateway.options.config import Configuration
from gateway.quotas.client import QuotaClient
from gateway.script_host.client import ScriptClient
from gateway.spool import Spool, SpoolWriter
from scp.allocator import keep_free_memory
from scp.association import AcceptedAssociation, running_associations
from scp.environment import Environment, configure_pynetdicom
from scp.mover import running_movers
from scp.policies import policies
from scp.quotas import Quotas
from scp.storage import StorageService

MAXIMUM_MESSAGE_BYTES: Final = 4096
# A worker that was told to end gives aborted associations this long to clean up.
ABORT_GRACE_S: Final = 3.0


class Worker:
    """The life of one worker process."""

    def __init__(self, control: socket.socket, environment: Environment, writer: SpoolWriter) -> None:
        self._control = control
        self._environment = environment
        self._writer = writer
        self._log = get_logger()
        self._draining = False

    def run(self) -> None:
        """Serve until the supervisor says drain, or is gone."""
        self._tell({"ready": True})
        while True:
            try:
                packet, fds, _flags, _address = socket.recv_fds(self._control, MAXIMUM_MESSAGE_BYTES, 1)
            except OSError:  # the supervisor is dead, and had not read all that we said
                os._exit(1)
            if not packet:
                os._exit(1)
            message = json.loads(packet)
            if "connection" in message and fds:
                self._serve(socket.socket(fileno=fds[0]), message)
            elif "connection" in message:
                self._log.error("connection refused: no descriptor is left", peer=message["connection"][0])
                self._on_end(message["number"])
            elif "ping" in message:
                self._tell({"pong": message["ping"]})
                self._environment.lines.summarise()
            elif "drain" in message:
                self._drain(float(message["drain"]))
                return

    def _serve(self, connection: socket.socket, message: dict[str, Any]) -> None:
        address, number = tuple(message["connection"]), message["number"]
        try:
            AcceptedAssociation(
                self._environment,
                connection,
                address,
                lambda: self._on_end(number),
                over_limit=message["over_limit"],
            ).start()
        except (OSError, RuntimeError) as error:  # the peer was gone before we looked, or no thread can be started
            self._log.warning("connection lost before it was served", peer=address[0], reason=str(error))
            connection.close()
            self._on_end(number)

    def _on_end(self, number: int) -> None:
        # A supervisor that stops counts no more and reads nothing: hundreds of messages would block their threads.
        if not self._draining:
            self._tell({"ended": number})

    def _drain(self, seconds: float) -> None:
        self._draining = True
        deadline = time.monotonic() + seconds
        while running_associations() and time.monotonic() < deadline:
            for association in running_associations():
                association.join(max(0.0, min(0.2, deadline - time.monotonic())))
        for mover in running_movers():  # with SynchronousCMove false they outlive their association
            mover.join(max(0.0, deadline - time.monotonic()))
        for association in running_associations():
            association.interrupt()
        deadline = time.monotonic() + ABORT_GRACE_S
        for association in running_associations():
            association.join(max(0.0, deadline - time.monotonic()))
        self._writer.close()

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(message).encode())


def _allow_descriptors() -> None:
    """Raise the limit of open descriptors as far as permitted: each association needs one, and one per instance."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _quotas(configuration: Configuration, writer: SpoolWriter) -> Quotas | None:
    section = configuration.gateway.quotas
    if not section.rules and not section.counts:
        return None
    return Quotas(configuration, QuotaClient(configuration.state_directory, writer.name) if section.counts else None)


def _script(configuration: Configuration) -> ScriptClient | None:
    if configuration.script is None:
        return None
    return ScriptClient(configuration.state_directory, configuration.gateway.script_options)


def main() -> None:
    """Entry point: `python -I -m scp.worker CONTROL_FD`, settings on standard input."""
    control, settings, configuration = begin("scp")
    _allow_descriptors()
    keep_free_memory()
    configure_pynetdicom()
    writer = SpoolWriter(Spool(configuration.state_directory))
    deliveries = DeliveryClient(configuration.state_directory, receives=True)
    behind = archives(settings, configuration, deliveries)
    script = _script(configuration)
    in_order = policies(configuration, _quotas(configuration, writer), script)
    storage = StorageService(configuration, writer, deliveries, in_order)
    environment = Environment(configuration, storage, behind, move_drivers(configuration, behind), script)
    # What is loaded by now stays. Looking through it again and again would stop all associations for 20 ms.
    gc.collect()
    gc.freeze()
    Worker(control, environment, writer).run()
    os._exit(0)


if __name__ == "__main__":
    main()
