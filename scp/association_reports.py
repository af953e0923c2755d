"""Reports of storage commitment on the association of their request (`SameAssociation`).

Nothing is sent from another thread: the association's own waits for the peer and, by an eventfd, for orders to report.
It reports between two messages of the peer. What the peer says before it answers is served as always (scp/requests.py).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final, Protocol

from gateway.database import Database, DatabaseError
from scp.association_errors import AssociationError, ContextNotAccepted
from scp.commitment_report import send_report
from scp.requests import NegotiatedAssociation, RequestSender
from scp.upper_layer import UpperLayer
from storage_commitment import store
from storage_commitment.channel import Order, ReporterClient
from storage_commitment.data_sets import STORAGE_COMMITMENT_PUSH_MODEL

# Where nothing else ends a wait (DicomScpTimeout 0).
LONGEST_WAIT_S: Final = 3600.0

REPORTED: Final = "on the association of the request"
HAS_ENDED: Final = "the association has ended"


class Reporting(NegotiatedAssociation, Protocol):
    """What is needed of an association."""

    name: str
    upper_layer: UpperLayer
    requests: RequestSender
    reports: AssociationReports | None

    @property
    def is_between_messages(self) -> bool:
        """Whether the peer is not in the middle of a message."""


class WorkersReports:
    """What the associations of a worker share: the store, the connection to the reporter. Thread-safe."""

    def __init__(self, state_directory: Path, books: Database) -> None:
        self.books = books
        self._lock = threading.Lock()
        self._by_name: dict[str, AssociationReports] = {}
        self.client = ReporterClient(state_directory, self._on_order)

    def received(self, number: int, association: Reporting, *, may_report: bool) -> None:
        """The request of this transaction is answered; whether the report may come on its association."""
        if may_report:
            if association.reports is None:
                association.reports = AssociationReports(self, association)
            with self._lock:
                self._by_name[association.name] = association.reports
        self.client.received(number, association.name if may_report else "")

    def leave(self, association: Reporting) -> None:
        """The association is over."""
        with self._lock:
            self._by_name.pop(association.name, None)
        self.client.ended(association.name)

    def _on_order(self, order: Order) -> None:
        with self._lock:
            reports = self._by_name.get(order.association)
        if reports is None:
            self.client.not_reported(order.number, HAS_ENDED)
        else:
            reports.order(order)


class AssociationReports:
    """The reports of one association, which has asked for commitment. `order` may be called by any thread."""

    def __init__(self, owner: WorkersReports, association: Reporting) -> None:
        self._owner = owner
        self._association = association
        self._lock = threading.Lock()
        self._orders: deque[Order] = deque()
        self._eventfd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def order(self, order: Order) -> None:
        """Have a report made as soon as the association's thread can."""
        with self._lock:
            if self._eventfd is not None:
                self._orders.append(order)
                os.eventfd_write(self._eventfd, 1)
                return
        self._owner.client.not_reported(order.number, HAS_ENDED)

    def peer_speaks(self) -> bool:
        """Wait for the peer, for as long as it may be silent; False if a report was made instead."""
        upper_layer, eventfd = self._association.upper_layer, self._eventfd
        if eventfd is None or not self._association.is_between_messages:
            return True
        silence_s = upper_layer.reader.timeout
        if upper_layer.wait_for_input(silence_s or LONGEST_WAIT_S, eventfd):
            return True
        order = self._take()
        if order is not None:
            self._report(order)
        elif silence_s:
            upper_layer.end_silence()
        return False

    def close(self) -> None:
        """The association is over."""
        with self._lock:
            orders, self._orders = self._orders, deque()
            if self._eventfd is not None:
                os.close(self._eventfd)
                self._eventfd = None
        for order in orders:
            self._owner.client.not_reported(order.number, HAS_ENDED)
        self._owner.leave(self._association)

    def _take(self) -> Order | None:
        """One order: what the peer asked for while the report was made is answered before the next."""
        with self._lock:
            if not self._orders:
                return None
            if len(self._orders) == 1 and self._eventfd is not None:
                os.eventfd_read(self._eventfd)
            return self._orders.popleft()

    def _report(self, order: Order) -> None:
        if time.monotonic() > order.until:
            return  # the reporter waits no longer
        self._owner.client.begun(order.number)
        try:
            refusal = self._send(order)
        except (AssociationError, ContextNotAccepted, DatabaseError) as error:
            refusal = str(error)
        if refusal:
            self._owner.client.not_reported(order.number, refusal)
        else:
            self._owner.client.reported(order.number, REPORTED)

    def _send(self, order: Order) -> str:
        association = self._association
        with self._owner.books.read() as connection:
            transaction = store.load(connection, order.number)
        if transaction is None:
            return "the request was deleted"
        context_id = association.requests.context_id(STORAGE_COMMITMENT_PUSH_MODEL, None, role="scp")
        return send_report(
            association, association.requests, context_id, transaction, transaction.failures, order.timeout_s
        )
