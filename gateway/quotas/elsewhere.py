"""Other gateways on the same PostgreSQL: what each has leased and does not need it gives back when another one asks.

They hear each other through LISTEN and NOTIFY. On SQLite there are no others: a state directory serves one gateway.
"""

import json
from typing import Any, Final

from sqlalchemy import text

from gateway.database import Database, DatabaseError, translated
from gateway.log import get_logger
from gateway.quotas.accounts import Account

CHANNEL: Final = "dicom_gateway_quotas"


class Elsewhere:
    """The other gateways. `fileno` can be read when they said something."""

    def __init__(self, database: Database, gateway: str) -> None:
        """Raises DatabaseError."""
        self._database = database
        self._gateway = gateway
        self._log = get_logger()
        self._driver_errors = database.engine.dialect.loaded_dbapi.Error
        with translated():
            connection = database.engine.connect()
            driver: Any = connection.connection.driver_connection
            # Out of the pool for good: nobody else may get a connection that listens.
            connection.detach()
        self._connection = connection
        try:
            driver.autocommit = True
            driver.execute(f"LISTEN {CHANNEL}")
        except self._driver_errors as error:
            raise DatabaseError(str(error)) from error
        self._driver = driver
        self._fd = int(driver.fileno())

    def fileno(self) -> int:
        """For a selector; the same also when the server has hung up."""
        return self._fd

    def heard(self) -> list[Account | None]:
        """What the others want back; None for: something was given back. Raises DatabaseError: then close it."""
        try:
            messages = [json.loads(each.payload) for each in self._driver.notifies(timeout=0)]
        except self._driver_errors as error:
            raise DatabaseError(str(error)) from error
        return [
            Account(*message["recall"]) if message["recall"] is not None else None
            for message in messages
            if message["from"] != self._gateway
        ]

    def close(self) -> None:
        """Hang up."""
        self._driver.close()

    def recall(self, account: Account | None) -> None:
        """Ask for `account`; None: say that something was given back."""
        payload = json.dumps({"from": self._gateway, "recall": account})
        try:
            with self._database.write() as sql:
                sql.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})
        except DatabaseError as error:
            self._log.error("the quotas' database fails", reason=str(error))
