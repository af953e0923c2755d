"""Which step of an order a message means: by its ID, else by its place in the order."""

from collections.abc import Collection, Sequence
from enum import Enum, auto

from worklist import items
from worklist.items import text_of
from worklist.orders.derivation import step_id
from worklist.orders.memory import Known


class Meant(Enum):
    """What a message that names no step, or one that is not there, is about."""

    NEW_STEP = auto()
    # The order as a whole: its steps are several, and none of them is named.
    ALL_STEPS = auto()


def find_step(order: Sequence[Known], said: str, number: int, is_only: bool, touched: Collection[int]) -> Known | Meant:
    """The step that is meant.

    `said` is its ID, "" if the message has none; `number` is its place among those without, `is_only` whether the
    message has no other step of the order; `touched` are the items that others of its steps have meant.
    """
    if said:
        for known in order:
            if known.item.keys.scheduled_procedure_step_id == said:
                return known
        # Its ID was derived, and now it is known.
        unnamed = [
            known
            for known in order
            if known.item.id not in touched and items.SCHEDULED_PROCEDURE_STEP_ID in known.memory.derived
        ]
        return unnamed[0] if len(unnamed) == 1 and is_only else Meant.NEW_STEP
    for known in order:
        procedure = text_of(known.item.attributes, items.REQUESTED_PROCEDURE_ID)
        if known.item.keys.scheduled_procedure_step_id == step_id(procedure, number):
            return known
    if not is_only:
        return Meant.NEW_STEP
    untouched = [known for known in order if known.item.id not in touched]
    if len(untouched) == 1:
        return untouched[0]
    return Meant.ALL_STEPS if untouched else Meant.NEW_STEP
