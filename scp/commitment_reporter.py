"""The process that verifies transactions of storage commitment and reports them.

Started by the supervisor as `python -I -m scp.commitment_reporter CONTROL_FD`, settings on standard input. A byte on
the control socket, or its end, means stop: what is in the store is complete at any time, what was begun begins anew.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway import database
from gateway.access.admission import Verb
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.archive.set_up import dicomweb_clients
from gateway.child import Settings, begin, end_by_errors, end_with
from gateway.database import Database, DatabaseError
from gateway.deliveries import DeliveryClient
from gateway.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.forwarding.endpoint import endpoint
from gateway.log import get_logger
from gateway.modalities import KnownModalities
from gateway.options.config import Configuration
from gateway.options.durations import read_duration
from gateway.options.orthanc import Modality
from gateway.options.storage_commitment import StorageCommitmentSection
from gateway.quotas.identity import gateway_identity
from gateway.script_host.client import ScriptClient
from gateway.spool import Spool
from gateway.tls.context import TlsError
from scp.association_errors import AssociationError
from scp.commitment_report import send_report
from scp.contexts import ContextPolicy
from scp.destinations import destination_of
from scp.environment import configure_pynetdicom
from scp.requestor import ProposedContext, RequestorAssociation
from storage_commitment import orthanc_json, reports, store
from storage_commitment.channel import SOCKET_NAME
from storage_commitment.channel_server import Channel
from storage_commitment.data_sets import STORAGE_COMMITMENT_PUSH_MODEL, FailureReason
from storage_commitment.dicomweb_keeper import DicomWebKeeper
from storage_commitment.reporter import DATABASE_RETRY_S, NotReported, Policy, Reporter
from storage_commitment.script_keeper import ScriptKeeper
from storage_commitment.store import Requester, Transaction
from storage_commitment.undelivered import UndeliveredInstances
from storage_commitment.verification import Keeper, OrthancKeeper

# As the forwarder: receiving comes first.
NICENESS: Final = 5
# Orthanc reads a file of some GB before it answers that it is as it was stored.
VERIFY_TIMEOUT_S: Final = 600.0

# Workers look for a new reporter several times in it.
TAKE_OVER_DELAY_NS: Final = 1_000_000_000

# We are SCP of the class, and open the association (PS3.4 J.3.3, PS3.7 D.3.3.4).
CONTEXTS: Final = (
    ProposedContext(
        STORAGE_COMMITMENT_PUSH_MODEL,
        (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
        scu=False,
        scp=True,
    ),
)


class Sender:
    """Makes reports: on the association of the request if there is one for it, else on a new one."""

    def __init__(self, configuration: Configuration, channel: Channel) -> None:
        self._configuration = configuration
        self._modalities = KnownModalities(configuration)
        self._channel = channel

    def send(self, transaction: Transaction, failures: Mapping[str, FailureReason]) -> str:
        """See storage_commitment.reporter.Send."""
        try:
            destination = destination_of(self._configuration, self._modality(transaction.requester))
        except TlsError as error:
            raise NotReported(f"TLS: {error}") from error
        how = self._channel.report(transaction.id, destination.timeout_s)
        if how is not None:
            return how
        # Who is reported to knows us by the title that it called.
        destination = dataclasses.replace(destination, calling_ae_title=transaction.requester.called_ae_title)
        where = f"{destination.host}, port {destination.port}"
        try:
            with RequestorAssociation(destination, CONTEXTS).open() as association:
                # Some take reports without answering the role that is proposed to them.
                context_id = next(iter(association.accepted_context_ids))
                refusal = send_report(
                    association, association.requests, context_id, transaction, failures, destination.timeout_s
                )
        except AssociationError as error:
            raise NotReported(f"{where}: {error}") from error
        if refusal:
            raise NotReported(f"{where}: {refusal}")
        return f"to {where}"

    def _modality(self, requester: Requester) -> Modality:
        """The entry of DicomModalities; of several the one with the address that asked."""
        title_key = self._configuration.title_key
        entries = [
            modality
            for modality in self._modalities.current().values()
            if title_key(modality.ae_title) == title_key(requester.ae_title)
        ]
        if not entries:
            raise NotReported(f"{requester.ae_title} is not in DicomModalities any more")
        return next((entry for entry in entries if entry.host == requester.address), entries[0])


def policy_of(section: StorageCommitmentSection) -> Policy:
    """The options as they count."""
    return Policy(
        grace_period_s=read_duration(section.grace_period),
        maximum_retries=section.maximum_retries,
        retry_delay_s=read_duration(section.retry_delay),
        maximum_retry_delay_s=read_duration(section.maximum_retry_delay),
        retention_s=read_duration(section.retention),
    )


def _keepers(
    settings: Settings, configuration: Configuration, section: StorageCommitmentSection
) -> Callable[[Transaction], Keeper]:
    """Who says it of which transaction: by called AE title, and before either a script."""
    deliveries = DeliveryClient(configuration.state_directory)
    undelivered = UndeliveredInstances(Spool(configuration.state_directory))
    orthanc = _orthanc_keeper(settings, configuration, section, deliveries, undelivered)
    servers = {
        title: DicomWebKeeper(client, deliveries, undelivered)
        for title, client in dicomweb_clients(configuration).items()
    }

    def keeper(transaction: Transaction) -> Keeper:
        return servers.get(configuration.server_title(transaction.requester.called_ae_title) or "", orthanc)

    if configuration.script is None:
        return keeper
    script = ScriptClient(configuration.state_directory, configuration.gateway.script_options)
    return lambda transaction: ScriptKeeper(script, keeper(transaction), deliveries, undelivered, transaction)


def _orthanc_keeper(
    settings: Settings,
    configuration: Configuration,
    section: StorageCommitmentSection,
    deliveries: DeliveryClient,
    undelivered: UndeliveredInstances,
) -> Keeper:
    where = dataclasses.replace(endpoint(settings, configuration), timeout_s=VERIFY_TIMEOUT_S)
    rest = OrthancRest(where, max(1, configuration.orthanc.http_threads_count // 12))
    return OrthancKeeper(
        OrthancArchive(rest, Options(configuration.orthanc.dicom_aet)),
        rest,
        deliveries,
        undelivered,
        verify=section.verify,
    )


def main() -> None:
    """Entry point."""
    control, settings, configuration = begin("commitment")
    end_by_errors("the reporter of commitments")
    end_with(control)
    os.nice(NICENESS)
    configure_pynetdicom()
    section = configuration.gateway.storage_commitment
    books = database.connect(configuration)
    gateway = gateway_identity(configuration.state_directory)
    channel = Channel(
        configuration.state_directory / SOCKET_NAME,
        on_connection=lambda: reporter.poke(),
        on_received=lambda number: reporter.answered(number),
        report_of=lambda transaction_uid: _report_of(books, transaction_uid),
    )
    contexts = ContextPolicy(
        configuration.transfer_syntaxes,
        unknown_sop_class_accepted=configuration.orthanc.unknown_sop_class_accepted,
    )
    reporter = Reporter(
        books,
        gateway,
        _keepers(settings, configuration, section),
        Sender(configuration, channel).send,
        lambda sop_class_uid: contexts.verb(sop_class_uid) is Verb.STORE,
        policy_of(section),
    )
    _take_over(books, gateway)
    threading.Thread(target=channel.run, daemon=True).start()
    reporter.run()


def _report_of(books: Database, transaction_uid: str) -> bytes:
    with books.read() as connection:
        return orthanc_json.encode(reports.find(connection, transaction_uid))


def _take_over(books: Database, gateway: str) -> None:
    """What an earlier run left is due once workers, if any live, have said which associations are still open.

    A database that is away is waited for: it was there at the start.
    """
    while True:
        try:
            with books.write(lock=store.LOCK) as connection:
                store.take_over(connection, gateway, time.time_ns() + TAKE_OVER_DELAY_NS)
            return
        except DatabaseError as error:
            get_logger().error("the database fails; commitments wait", reason=str(error))
            time.sleep(DATABASE_RETRY_S)


if __name__ == "__main__":
    main()
