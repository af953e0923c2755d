"""Tells the worklist's process of studies that arrive (`StartOnFirstInstance`)."""

from typing import TYPE_CHECKING

from scp.policy import Policy
from worklist.performed.announcements import Announcer, Arrival

if TYPE_CHECKING:
    from scp.storage import IncomingInstance


class TellWorklist(Policy):
    """Has nothing against anything; behind the response it says whose instance was stored."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    def on_end(self, instance: "IncomingInstance", *, stored: bool) -> None:
        """See Policy."""
        if stored:
            header, peers = instance.header, instance.peers
            self._announcer.tell(
                Arrival(
                    study=header.study_instance_uid,
                    accession=header.accession_number,
                    patient=header.patient_id,
                    calling=peers.calling_ae_title,
                    called=peers.called_ae_title,
                )
            )
