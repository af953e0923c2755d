"""The process that sends to the receivers of `DicomGateway.Hl7.Receivers`.

Started by the supervisor as `python -I -m worklist.feedback CONTROL_FD`, settings on standard input. A byte on the
control socket, or its end, means: finish the message that is being sent, and end. What is not acknowledged by then is
sent again after the next start.
"""

import os
import threading
import time
import zoneinfo
from functools import partial
from typing import Any, Final

from gateway import database
from gateway.child import begin, until_stopped
from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.options.hl7 import Hl7Section
from gateway.options.hl7_receivers import ReceiverSection
from gateway.quotas.identity import gateway_identity
from gateway.receiver_connection import connect
from worklist.feedback import outbox, receivers
from worklist.feedback.delivery import Delivery
from worklist.feedback.line import Line
from worklist.feedback.ownership import Ownership
from worklist.hl7.traces import trace

# As the forwarder: answering modalities comes first.
NICENESS: Final = 5
STOP_TIMEOUT_S: Final = 5.0
# After an error of our own.
ERROR_RETRY_S: Final = 60.0

HOUSEKEEPING_INTERVAL_S: Final = 3600.0
# After a step of pruning that left something.
PRUNE_AGAIN_S: Final = 1.0
DAY_NS: Final = 24 * 3600 * 10**9


def main() -> None:
    """Entry point."""
    control, _settings, configuration = begin("hl7 sender")
    section = configuration.gateway.hl7
    if section is None:
        raise SystemExit("DicomGateway.Hl7 is not configured")
    os.nice(NICENESS)
    stopping = threading.Event()
    books = database.connect(configuration)
    identity = gateway_identity(configuration.state_directory)
    threads = []
    for receiver in section.receivers:
        delivery = make_delivery(configuration, section, receiver, books, identity)
        arguments = (delivery, receiver, stopping, get_logger())
        threads.append(threading.Thread(target=_deliver, args=arguments, name=receiver.name, daemon=True))
    threads.append(threading.Thread(target=_keep_house, args=(books, identity, section, stopping), daemon=True))
    for thread in threads:
        thread.start()
    until_stopped(control)
    stopping.set()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    os._exit(0)


def make_delivery(
    configuration: Configuration, section: Hl7Section, receiver: ReceiverSection, books: Database, identity: str
) -> Delivery:
    """What sends to one receiver."""
    log = get_logger()
    line = Line(receiver, partial(connect, configuration, receiver), log)
    zone = zoneinfo.ZoneInfo(section.time_zone) if section.time_zone else None
    return Delivery(books, identity, receiver, line, Ownership(books, identity, receiver), log, zone=zone)


def _deliver(delivery: Delivery, receiver: ReceiverSection, stopping: threading.Event, log: Any) -> None:
    """The outermost boundary of one receiver: whatever it was, the others go on."""
    while not stopping.is_set():
        try:
            wait_s = delivery.step()
        except Exception as error:  # noqa: BLE001  see above
            log.error("nothing is sent for now by an error of our own", receiver=receiver.name, **trace(error))
            wait_s = ERROR_RETRY_S
        stopping.wait(wait_s)
    delivery.close()


def _keep_house(books: Database, identity: str, section: Hl7Section, stopping: threading.Event) -> None:
    """Delete what is old, and say that this gateway is there."""
    wait_s = 0.0
    while not stopping.wait(wait_s):
        now = time.time_ns()
        wait_s = HOUSEKEEPING_INTERVAL_S
        try:
            with books.write() as connection:
                receivers.still_there(connection, identity, now)
                if outbox.prune(connection, now - section.retention * DAY_NS):
                    wait_s = PRUNE_AGAIN_S
        except DatabaseError as error:
            get_logger().error("cannot delete old messages to receivers", reason=str(error))


if __name__ == "__main__":
    main()
