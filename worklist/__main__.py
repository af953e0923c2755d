"""The process that keeps the worklist: reads folders of files into it, deletes what has expired.

Started by the supervisor as `python -I -m worklist CONTROL_FD`, settings on standard input. A byte on the control
socket, or its end, means stop: what is in the store is complete at any time.
"""

import os
import signal
import socket
import sys
import threading

from gateway import database
from gateway.character_sets import of_orthanc
from gateway.child import read_settings
from gateway.log import get_logger
from gateway.quotas.identity import gateway_identity
from gateway.worklist_options import WorklistSection
from worklist.folders import FolderImport
from worklist.housekeeping import Housekeeping
from worklist.watching import Watcher

# As the forwarder: answering modalities comes first.
NICENESS = 5


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = read_settings()
    configuration = settings.configuration()
    settings.configure_log(configuration, "worklist")
    threading.Thread(target=_end_with, args=(control,), daemon=True).start()
    os.nice(NICENESS)
    if configuration.orthanc.worklists.enable and configuration.orthanc.worklists.save_in_orthanc_database:
        get_logger().warning("worklists that Orthanc keeps in its database are not served", option="Worklists")
    books = database.connect(configuration)
    folders = configuration.worklist_folders
    importing = FolderImport(
        books,
        gateway_identity(configuration.state_directory),
        folders,
        of_orthanc(configuration.orthanc.default_encoding),
    )
    section = configuration.worklist or WorklistSection()
    Housekeeping(books, importing, Watcher([folder.path for folder in folders]), section.expiry.seconds()).run()


def _end_with(control: socket.socket) -> None:
    control.recv(16)
    os._exit(0)


if __name__ == "__main__":
    main()
