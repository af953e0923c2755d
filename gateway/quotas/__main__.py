"""The keeper's process.

Started by the supervisor as `python -I -m gateway.quotas CONTROL_FD`, settings on standard input. A byte on the control
socket, or its end, means stop: what is in the books is safe at any time.
"""

import os
import select
import socket
from typing import Final

from gateway import database
from gateway.child import begin, end_by_errors, is_pinged
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.transports import HttpTransport
from gateway.log import get_logger
from gateway.quotas.accounts import TOTAL, Account, Amount, Holder
from gateway.quotas.audit import Auditor
from gateway.quotas.elsewhere import Elsewhere
from gateway.quotas.gate import SOCKET_NAME
from gateway.quotas.holdings import Holdings
from gateway.quotas.identity import gateway_identity
from gateway.quotas.keeper import DATABASE_RETRY_S, Keeper
from gateway.quotas.ledger import Ledger
from gateway.quotas.rules import counting_rules
from gateway.spool import Spool

# As the forwarder: receiving comes first.
NICENESS: Final = 5
# As many identifiers as the glue puts into one packet.
MAXIMUM_PACKET_BYTES: Final = 64 * 1024


def main() -> None:
    """Entry point."""
    control, settings, configuration = begin("quotas")
    end_by_errors("the keeper of the quotas")  # the books are the truth
    os.nice(NICENESS)
    books = database.connect(configuration)
    gateway = gateway_identity(configuration.state_directory)
    ledger = Ledger(books, counting_rules(configuration, gateway), gateway)
    holders = _open(ledger, control)
    spool = Spool(configuration.state_directory)
    transport = HttpTransport(endpoint(settings, configuration)) if configuration.has_orthanc else None
    has_servers = bool(configuration.dicom_web_servers)
    auditor = Auditor(ledger, Holdings(books, ledger), spool, transport, has_servers=has_servers)
    elsewhere = None if books.is_sqlite else lambda: Elsewhere(books, gateway)
    keeper = Keeper(ledger, spool, auditor, configuration.state_directory / SOCKET_NAME, elsewhere)

    def on_control() -> None:
        if not is_pinged(control):
            os._exit(0)

    keeper.watch(control, on_control)
    if settings.changes_fd is not None:
        changes = socket.socket(fileno=settings.changes_fd)
        keeper.watch(changes, lambda: auditor.deleted(changes.recv(MAXIMUM_PACKET_BYTES).decode().split()))
    keeper.lose(holders)
    auditor.start(keeper.poke)
    keeper.run()


def _open(ledger: Ledger, control: socket.socket) -> set[str]:
    """Open the books and return who has leases. A database that is away is waited for: it was there at the start."""
    complained = False
    while True:
        try:
            ledger.open()
            holders = ledger.holders()
            _warm_up(ledger)
            return holders
        except database.DatabaseError as error:
            if not complained:
                get_logger().error("the quotas' database fails; it is tried again", reason=str(error))
            complained = True
            if select.select([control], [], [], DATABASE_RETRY_S)[0] and not is_pinged(control):
                os._exit(0)


def _warm_up(ledger: Ledger) -> None:
    """Lease something once: the first sender need not wait until all statements are compiled."""
    nobody = Holder(ledger.gateway, "nobody")
    for rule in ledger.rules.values():
        ledger.grant(nobody, Account(rule.key, TOTAL), Amount())
    ledger.end_leases(nobody)


if __name__ == "__main__":
    main()
