"""Procedure steps in SQL: created, changed, found. Everything works on a connection of the caller's (worklist.store).

PS3.4 F.7.2: a step is created IN PROGRESS; when it is COMPLETED or DISCONTINUED it does not change any more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from gateway.matching.attributes import Attributes, Element
from worklist.encoding import from_json, to_json
from worklist.items import Item, text_of
from worklist.performed.linking import items_of_step, link, linked_items
from worklist.performed.requirements import (
    PERFORMED_STATION_AE_TITLE,
    SET_BY_CREATE_ONLY,
    STATUS,
    Problem,
    StepRefused,
    StepStatus,
    check_change,
    check_create,
    status_of,
)
from worklist.performed.tables import STEP_ITEMS, STEPS
from worklist.performed.work import follow
from worklist.store import Change

# PS3.4 table F.7.2-2.
MAY_NOT_BE_UPDATED: Final = "Performed Procedure Step Object may no longer be updated"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who reports a step."""

    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Step:
    """One procedure step. Times are nanoseconds since 1970."""

    id: int
    sop_instance_uid: str
    status: StepStatus
    peer: Peer
    created_at: int
    changed_at: int
    attributes: Attributes

    @property
    def station(self) -> str:
        """Performed Station AE Title."""
        return text_of(self.attributes, PERFORMED_STATION_AE_TITLE)


@dataclass(frozen=True, slots=True)
class Reported:
    """A step as it is now, and the items that it is about, as they are now."""

    step: Step
    items: tuple[Item, ...]


def create(
    connection: Connection,
    sop_instance_uid: str,
    attributes: Attributes,
    peer: Peer,
    at: int,
    partitions: Collection[str] | None = None,
) -> Reported:
    """N-CREATE. `partitions`: the Worklist Labels that the peer may see; None for all. Raises StepRefused."""
    if by_uid(connection, sop_instance_uid) is not None:
        raise StepRefused(Problem.DUPLICATE, "there is a step with this SOP Instance UID")
    check_create(attributes)
    values = {
        "sop_instance_uid": sop_instance_uid,
        "status": StepStatus.IN_PROGRESS.value,
        "calling_ae_title": peer.calling_ae_title,
        "called_ae_title": peer.called_ae_title,
        "address": peer.address,
        "created_at": at,
        "changed_at": at,
        "attributes": to_json(attributes),
    }
    number = connection.execute(insert(STEPS).values(values).returning(STEPS.c.id)).scalar_one()
    step = Step(number, sop_instance_uid, StepStatus.IN_PROGRESS, peer, at, at, attributes)
    return _reported(connection, step, partitions)


def change(
    connection: Connection,
    sop_instance_uid: str,
    modifications: Attributes,
    at: int,
    partitions: Collection[str] | None = None,
) -> Reported:
    """N-SET: each attribute in `modifications` replaces that of the step. Raises StepRefused."""
    step = by_uid(connection, sop_instance_uid)
    if step is None:
        raise StepRefused(Problem.UNKNOWN, "there is no step with this SOP Instance UID")
    if step.status is not StepStatus.IN_PROGRESS:
        raise StepRefused(Problem.FINAL, MAY_NOT_BE_UPDATED)
    check_change(step.attributes, modifications)
    settable = {tag: element for tag, element in modifications.items() if tag not in SET_BY_CREATE_ONLY}
    changed = _write(connection, step, {**step.attributes, **settable}, at)
    if changed.status is step.status:
        return Reported(changed, tuple(linked_items(connection, step.id)))
    return _reported(connection, changed, partitions)


def end(
    connection: Connection,
    number: int,
    status: StepStatus,
    cause: Change,
    partitions: Collection[str] | None = None,
) -> Reported:
    """End a step that its modality will not end any more, as if it had. Raises StepRefused."""
    step = get(connection, number)
    if step is None:
        raise StepRefused(Problem.UNKNOWN, f"there is no procedure step {number}")
    if step.status is not StepStatus.IN_PROGRESS:
        raise StepRefused(Problem.FINAL, f"procedure step {number} is {step.status.value} already")
    attributes = {**step.attributes, STATUS: Element("CS", status.value)}
    return _reported(connection, _write(connection, step, attributes, cause.at), partitions, cause)


def get(connection: Connection, number: int) -> Step | None:
    """The step with this identifier."""
    row = connection.execute(select(*_COLUMNS).where(STEPS.c.id == number)).one_or_none()
    return _step(row) if row is not None else None


def by_uid(connection: Connection, sop_instance_uid: str) -> Step | None:
    """The step with this SOP Instance UID."""
    row = connection.execute(select(*_COLUMNS).where(STEPS.c.sop_instance_uid == sop_instance_uid)).one_or_none()
    return _step(row) if row is not None else None


def latest(
    connection: Connection, limit: int, *, status: StepStatus | None = None, calling_ae_title: str = ""
) -> list[Step]:
    """The steps that changed last, the newest first."""
    query = select(*_COLUMNS).order_by(STEPS.c.changed_at.desc(), STEPS.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(STEPS.c.status == status.value)
    if calling_ae_title:
        query = query.where(STEPS.c.calling_ae_title == calling_ae_title)
    return [_step(row) for row in connection.execute(query)]


def of_item(connection: Connection, item: int) -> list[Step]:
    """The steps that are about an item, the oldest first."""
    query = select(*_COLUMNS).join(STEP_ITEMS, STEP_ITEMS.c.step == STEPS.c.id).where(STEP_ITEMS.c.item == item)
    return [_step(row) for row in connection.execute(query.order_by(STEPS.c.id))]


def _write(connection: Connection, step: Step, attributes: Attributes, at: int) -> Step:
    changed = replace(step, status=status_of(attributes) or step.status, changed_at=at, attributes=attributes)
    values = {"status": changed.status.value, "changed_at": at, "attributes": to_json(attributes)}
    connection.execute(update(STEPS).where(STEPS.c.id == step.id).values(values))
    return changed


def _reported(
    connection: Connection, step: Step, partitions: Collection[str] | None, cause: Change | None = None
) -> Reported:
    """Link a step whose status is new with its items; those follow it. `cause`: who changed it, if not its peer.

    Again at its end: the order may have come after the examination began.
    """
    link(connection, step.id, items_of_step(connection, step.attributes, partitions))
    cause = cause or Change(f"mpps {step.peer.calling_ae_title}", step.changed_at)
    reason = f"procedure step {step.id} {step.status.value}"
    items = [follow(connection, item, cause, reason) for item in linked_items(connection, step.id)]
    return Reported(step, tuple(items))


_COLUMNS: Final = (
    STEPS.c.id,
    STEPS.c.sop_instance_uid,
    STEPS.c.status,
    STEPS.c.calling_ae_title,
    STEPS.c.called_ae_title,
    STEPS.c.address,
    STEPS.c.created_at,
    STEPS.c.changed_at,
    STEPS.c.attributes,
)


def _step(row: Sequence[Any]) -> Step:
    peer = Peer(row[3], row[4], row[5])
    return Step(row[0], row[1], StepStatus(row[2]), peer, row[6], row[7], from_json(row[8]))
