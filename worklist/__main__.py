"""The process that keeps the worklist: reads folders of files into it, deletes what has expired, follows images.

Started by the supervisor as `python -I -m worklist CONTROL_FD`, settings on standard input. A byte on the control
socket, or its end, means stop: what is in the store is complete at any time.
"""

import os
import socket
import threading
import time
from collections.abc import Callable

from gateway import database
from gateway.archive.rest import OrthancRest
from gateway.child import Settings, begin, end_by_errors, end_with
from gateway.dicom.character_sets import of_orthanc
from gateway.forwarding.endpoint import endpoint
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.options.worklist import WorklistSection
from gateway.quotas.identity import gateway_identity
from worklist.folders import FolderImport
from worklist.housekeeping import Housekeeping
from worklist.performed.announcements import listen
from worklist.performed.first_instances import FirstInstances
from worklist.performed.stable_studies import POLL_S, StableStudies
from worklist.watching import Watcher

# As the forwarder: answering modalities comes first.
NICENESS = 5


def main() -> None:
    """Entry point."""
    control, settings, configuration = begin("worklist")
    end_by_errors("the worklist's process")
    end_with(control)
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
    _follow_images(settings, configuration, section, books)
    Housekeeping(books, importing, Watcher([folder.path for folder in folders]), section.expiry.seconds()).run()


def _follow_images(
    settings: Settings, configuration: Configuration, section: WorklistSection, books: database.Database
) -> None:
    """What received images say of items: as far as the options want it, on threads of its own."""
    starts, completes = (
        section.start_on_first_instance,
        section.completes_on_stable_study(configuration.orthanc.worklists),
    )
    if starts:
        first = FirstInstances(books, has_partitions=section.partition_by_called_aet)
        listen(configuration.state_directory, first.heard)
    if starts or completes:
        studies = StableStudies(
            books,
            OrthancRest(endpoint(settings, configuration), connections=1),
            gateway_identity(configuration.state_directory),
            starts=starts,
            completes=completes,
        )
        threading.Thread(target=studies.run, args=(_stable_studies(settings.studies_fd),), daemon=True).start()


def _stable_studies(fd: int | None) -> Callable[[], None]:
    """Waits for a packet of the glue's, which comes when a study is stable; without the glue for POLL_S."""
    if fd is None:
        return lambda: time.sleep(POLL_S)
    glue = socket.socket(fileno=fd)

    def wait() -> None:
        if not glue.recv(16):  # Orthanc ends, and so shall we
            time.sleep(POLL_S)

    return wait


if __name__ == "__main__":
    main()
