"""`StartOnFirstInstance`: the first instance of a study starts its items."""

import time
from collections.abc import Callable
from typing import Final

from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from worklist import store
from worklist.items import Status
from worklist.performed.announcements import Arrival
from worklist.performed.images import Study, set_all, to_start

DATABASE_RETRY_S: Final = 5.0


class FirstInstances:
    """What is done about studies that begin to arrive."""

    def __init__(
        self, database: Database, *, has_partitions: bool, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._database = database
        self._has_partitions = has_partitions
        self._sleep = sleep
        self._log = get_logger()

    def heard(self, arrival: Arrival) -> None:
        """Start the items of the study, if there are any. A database that is away is waited for."""
        while True:
            try:
                self._start(arrival)
                return
            except DatabaseError as error:
                self._log.error("the worklist's database fails; it is tried again", reason=str(error))
                self._sleep(DATABASE_RETRY_S)

    def _start(self, arrival: Arrival) -> None:
        study = Study(arrival.study, arrival.accession, arrival.patient)
        partitions = (arrival.called, "") if self._has_partitions else None
        with self._database.read() as connection:
            if not to_start(connection, study, arrival.calling, partitions):
                return
        change = store.Change.now(f"images {arrival.calling}")
        with self._database.write(lock=store.LOCK) as connection:
            # Asked again: somebody may have changed one meanwhile.
            items = to_start(connection, study, arrival.calling, partitions)
            started = set_all(connection, items, Status.STARTED, change, "first instance received")
        self._log.info("images start items", calling=arrival.calling, items=",".join(map(str, started)))
