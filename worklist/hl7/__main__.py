"""The listener's process.

Started by the supervisor as `python -I -m worklist.hl7 CONTROL_FD PORT_FD`, settings on standard input. A byte on the
control socket, or its end, means: finish what is being worked on, and end. The port is open already, so that senders
wait for a process that is being started again instead of being refused.
"""

import gc
import os
import signal
import socket
import sys
import threading

from gateway import database
from gateway.child import read_settings
from gateway.log import get_logger
from gateway.tls.context import TlsContexts, files_of_hl7
from worklist.hl7.inbox import Inbox
from worklist.hl7.listener import Listener
from worklist.orders.handler import make_handler


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control, port = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    settings = read_settings()
    configuration = settings.configuration()
    settings.configure_log(configuration, "hl7")
    threading.excepthook = _die
    section = configuration.gateway.hl7
    if section is None:
        raise SystemExit("DicomGateway.Hl7 is not configured")
    log = get_logger()
    files = files_of_hl7(configuration, section)
    tls = TlsContexts(files, configuration.orthanc.tls_policy(), log) if files is not None else None
    inbox = Inbox(database.connect(configuration), make_handler(configuration), section, log)
    # What is loaded by now stays. Looking through it again and again would take time from every message.
    gc.collect()
    gc.freeze()
    Listener(port, inbox, section, tls, log).run(control)
    # Threads that did not end in time keep nothing: what is not committed is not acknowledged.
    os._exit(0)


def _die(arguments: threading.ExceptHookArgs) -> None:
    """An error that nobody expected: end the process. The supervisor starts it anew, senders send again."""
    get_logger().error("the HL7 listener ends by an error of its own", exc_info=arguments.exc_value)
    os._exit(1)


if __name__ == "__main__":
    main()
