"""The policy that asks the filter of a script (RegisterIncomingCStoreInstanceFilter)."""

import os
from typing import TYPE_CHECKING

from gateway.quotas.rules import host_of
from gateway.script_host.client import ScriptClient, ScriptFailed
from gateway.script_host.kinds import Kind
from scp.policy import Policy
from scp.statuses import Answer, OtherStatus, Status

if TYPE_CHECKING:
    from scp.storage import IncomingInstance


class ScriptFilter(Policy):
    """Asks about an instance that nobody else refuses; without an answer in time it is refused (0xA700)."""

    def __init__(self, script: ScriptClient) -> None:
        self._script = script

    def on_data_set(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy. Raises OSError."""
        try:
            if not self._script.has(Kind.FILTER):
                return None
            status = self._ask(instance)
        except ScriptFailed as error:
            return Answer(Status.OUT_OF_RESOURCES, f"filter: {error}")
        return Answer(OtherStatus(status), "refused by the script's filter") if status else None

    def _ask(self, instance: "IncomingInstance") -> int:
        peers = instance.peers
        # A descriptor of its own: the script gets no right to write.
        fd = os.open(instance.file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._script.call(Kind.FILTER) as call:
                header = {
                    "remote_aet": peers.calling_ae_title,
                    "called_aet": peers.called_ae_title,
                    "remote_ip": host_of(peers.calling_address),
                }
                return int(call.ask(header, fds=[fd]).header["status"])
        finally:
            os.close(fd)
