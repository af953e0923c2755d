"""Statuses of steps: which a message may change into which."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from worklist import store
from worklist.items import Status
from worklist.orders.memory import Known, Moment, remember
from worklist.orders.task import Task

_WAITING: Final = frozenset((Status.SCHEDULED, Status.ARRIVED, Status.READY))
_ENDED_UNDONE: Final = frozenset((Status.CANCELED, Status.DISCONTINUED))

# From which statuses a message may change a step. What a modality has begun is not scheduled anew.
CHANGES_FROM: Final[dict[Status, frozenset[Status]]] = {
    Status.SCHEDULED: _ENDED_UNDONE,
    Status.ARRIVED: frozenset((Status.SCHEDULED,)),
    Status.READY: frozenset((Status.SCHEDULED, Status.ARRIVED)),
    Status.STARTED: _WAITING,
    Status.DEPARTED: _WAITING | {Status.STARTED},
    Status.CANCELED: frozenset(Status) - {Status.COMPLETED},
    Status.DISCONTINUED: frozenset(Status) - {Status.COMPLETED},
    Status.COMPLETED: frozenset(Status),
}


def change_status(task: Task, known: Known, status: Status, moment: Moment, reason: str) -> Known:
    """Give an item a status, if the message is not older than the one that gave it its last and if that may change."""
    item, memory = known
    if moment.is_older(memory.status):
        task.notes.remark("older than the status of its step: no effect")
        return known
    if status is not item.status and item.status in CHANGES_FROM[status]:
        item = store.set_status(task.connection, item, status, task.change, reason)
        task.notes.changed(item.id, status.value)
    return remember(task.connection, Known(item, memory), replace(memory, status=moment))


def cancel_absent(task: Task, absent: Iterable[tuple[Known, Moment]]) -> None:
    """Cancel steps that a message about their order no longer names."""
    for known, moment in absent:
        if known.item.status in _WAITING and not moment.is_older(known.memory.content):
            change_status(task, known, Status.CANCELED, moment, "no longer in the order")
