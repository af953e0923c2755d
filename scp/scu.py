"""The services that the gateway uses of others: C-STORE (PS3.7 9.1.1), C-ECHO (9.1.5), N-EVENT-REPORT (10.1.1).

Each sends one request on an association that is open, ours or the peer's, and returns the response. They raise as
`RequestSender.perform` does, and ContextNotAccepted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scp.command_set import C_ECHO_RQ, C_STORE_RQ, MEDIUM, N_EVENT_REPORT_RQ, MoveOriginator, Request, Response
from scp.contexts import VERIFICATION
from scp.data_set_sources import EncodedDataSet
from scp.requests import RequestSender


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What is known of an instance that is to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Event:
    """What an N-EVENT-REPORT is about (PS3.7 table 10.1-1)."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int


def c_store(
    requests: RequestSender,
    instance: StoredInstance,
    data_set: EncodedDataSet,
    *,
    timeout_s: float,
    move_originator: MoveOriginator | None = None,
    priority: int = MEDIUM,
    on_sent: Callable[[], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Response:
    """Store an instance as it is encoded. `timeout_s`, `on_sent`, `on_wait`: see RequestSender.perform."""
    context_id = requests.context_id(instance.sop_class_uid, instance.transfer_syntax_uid)
    request = Request(
        C_STORE_RQ,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        priority=priority,
        move_originator=move_originator,
    )
    return requests.perform(context_id, request, data_set, timeout_s=timeout_s, on_sent=on_sent, on_wait=on_wait)


def c_echo(requests: RequestSender, *, timeout_s: float) -> Response:
    """Verify that the peer answers."""
    return requests.perform(
        requests.context_id(VERIFICATION, None), Request(C_ECHO_RQ, VERIFICATION), timeout_s=timeout_s
    )


def n_event_report(
    requests: RequestSender,
    context_id: int,
    event: Event,
    data_set: EncodedDataSet | None,
    *,
    timeout_s: float,
) -> Response:
    """Report an event. Peers that do not answer a proposed role take reports all the same: `context_id` is given."""
    request = Request(
        N_EVENT_REPORT_RQ,
        event.sop_class_uid,
        event.sop_instance_uid,
        event_type_id=event.event_type_id,
    )
    return requests.perform(context_id, request, data_set, timeout_s=timeout_s)
