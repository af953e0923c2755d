"""The normalized services (PS3.7 10) as SCP: N-EVENT-REPORT, N-SET, N-ACTION, N-CREATE. One request, one response."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from scp.command_set import N_ACTION_RQ, N_CREATE_RQ, N_EVENT_REPORT_RQ, N_SET_RQ, Command
from scp.services import Begin
from scp.statuses import Answer, Status
from scp.upper_layer import UpperLayer

_NAMES: Final = {
    N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
    N_SET_RQ: "N-SET",
    N_ACTION_RQ: "N-ACTION",
    N_CREATE_RQ: "N-CREATE",
}


class Requesting(Protocol):
    """What an operation needs of its association."""

    upper_layer: UpperLayer
    log: Any

    @property
    def accepted_context_ids(self) -> Mapping[int, Any]:
        """Accepted presentation contexts by ID."""

    @property
    def address(self) -> str:
        """The peer's IP address."""

    def respond(self, context_id: int, request: Command, answer: Answer) -> None:
        """Send a response without data set."""


@dataclasses.dataclass(frozen=True, slots=True)
class NormalizedRequest:
    """A request, and where it came from. `data_set` is encoded in `transfer_syntax`; empty if there was none."""

    association: Requesting
    context_id: int
    command: Command
    transfer_syntax: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    data_set: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a request comes to.

    `sop_instance_uid`: of what N-CREATE created without a UID of the peer's. `done` is logged. `afterwards` is
    called when the response is sent.
    """

    answer: Answer
    sop_instance_uid: str = ""
    done: Mapping[str, object] = dataclasses.field(default_factory=dict)
    afterwards: Callable[[], None] | None = None


Perform = Callable[[NormalizedRequest], Outcome]


def normalized(perform: Perform) -> Begin:
    """An entry of the table of services: what `perform` returns is the response."""

    def begin(association: Requesting, context_id: int, command: Command, data_set: bytes) -> NormalizedOperation:
        called, calling = association.upper_layer.ae_titles
        request = NormalizedRequest(
            association=association,
            context_id=context_id,
            command=command,
            transfer_syntax=str(association.accepted_context_ids[context_id].transfer_syntax[0]),
            calling_ae_title=calling,
            called_ae_title=called,
            address=association.address,
            data_set=data_set,
        )
        return NormalizedOperation(request, perform)

    return begin


class NormalizedOperation:
    """One request (scp.operations.Operation)."""

    def __init__(self, request: NormalizedRequest, perform: Perform) -> None:
        self._request = request
        self._perform = perform

    @property
    def message_id(self) -> int:
        """See Operation."""
        return self._request.command.message_id

    def cancel(self) -> None:
        """See Operation. There is no C-CANCEL for these services: the response is about to be sent."""

    def run(self) -> None:
        """See Operation."""
        request = self._request
        outcome = self._perform(request)
        self._log(outcome)
        command = request.command
        if outcome.sop_instance_uid:
            command = dataclasses.replace(command, affected_sop_instance_uid=outcome.sop_instance_uid)
        request.association.respond(request.context_id, command, outcome.answer)
        if outcome.afterwards is not None:
            outcome.afterwards()

    def _log(self, outcome: Outcome) -> None:
        answer = outcome.answer
        log = self._request.association.log.bind(
            message_id=self.message_id, status=f"0x{answer.status.code:04X}", **outcome.done
        )
        name = _NAMES[self._request.command.field]
        if answer.status is Status.SUCCESS:
            log.info(f"{name} answered")
        else:
            log.warning(f"{name} refused", reason=answer.comment)
