"""The listener's process.

Started by the supervisor as `python -I -m worklist.hl7 CONTROL_FD PORT_FD`, settings on standard input. A byte on the
control socket, or its end, means: finish what is being worked on, and end. The port is open already, so that senders
wait for a process that is being started again instead of being refused.
"""

import gc
import os
import socket
import sys

from gateway import database
from gateway.child import begin, end_by_errors
from gateway.log import get_logger
from gateway.tls.context import TlsContexts, files_of_hl7
from worklist.hl7.inbox import Inbox
from worklist.hl7.listener import Listener
from worklist.orders.handler import make_handler


def main() -> None:
    """Entry point."""
    control, _settings, configuration = begin("hl7")
    port = socket.socket(fileno=int(sys.argv[2]))
    end_by_errors("the HL7 listener")
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


if __name__ == "__main__":
    main()
