"""Whether instances are safe, asked of a script (RegisterStorageCommitmentScpCallback)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.archive.interface import ArchiveUnavailable
from gateway.deliveries import DeliveryClient
from gateway.script_host.client import ScriptClient, ScriptFailed, ScriptUnavailable
from gateway.script_host.kinds import Kind
from gateway.script_host.packets import Broken
from storage_commitment.data_sets import FailureReason, Reference
from storage_commitment.store import Transaction
from storage_commitment.undelivered import UndeliveredInstances
from storage_commitment.verification import Findings, Keeper, not_delivered


class ScriptKeeper:
    """Keeper (storage_commitment.verification) of one transaction: the script if it has a callback, or else others.

    What is acknowledged and on its way is waited for first: a script looks for it in Orthanc.
    """

    def __init__(
        self,
        script: ScriptClient,
        otherwise: Keeper,
        deliveries: DeliveryClient,
        undelivered: UndeliveredInstances,
        transaction: Transaction,
    ) -> None:
        self._script = script
        self._otherwise = otherwise
        self._deliveries = deliveries
        self._undelivered = undelivered
        self._transaction = transaction

    def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
        """See Keeper. An exception in the script is 0x0110: in setup for all, in lookup for one instance."""
        try:
            if not self._script.has(Kind.STORAGE_COMMITMENT):
                return self._otherwise.examine(references, is_final=is_final)
            uids = [one.sop_instance_uid for one in references]
            pending = not_delivered(self._deliveries, uids) - self._undelivered.among(uids)
            if pending:
                return Findings(pending=pending)
            return self._ask(references)
        except (ScriptUnavailable, Broken) as error:
            if not is_final:
                raise ArchiveUnavailable(f"script: {error}") from error
        except ScriptFailed:
            pass  # its log says why
        return Findings(dict.fromkeys((one.sop_instance_uid for one in references), FailureReason.PROCESSING_FAILURE))

    def _ask(self, references: Sequence[Reference]) -> Findings:
        requester = self._transaction.requester
        header = {
            "transaction_uid": self._transaction.request.transaction_uid,
            "remote_aet": requester.ae_title,
            "called_aet": requester.called_ae_title,
            "remote_ip": requester.address,
        }
        with self._script.call(Kind.STORAGE_COMMITMENT) as call:
            packet = call.ask(header, json.dumps([list(one) for one in references]).encode())
            while "more" in packet.header:
                call.extend()
                packet = call.receive()
        reasons = json.loads(packet.payload)
        return Findings(
            {
                one.sop_instance_uid: FailureReason(reason)
                for one, reason in zip(references, reasons, strict=True)
                if reason
            }
        )
