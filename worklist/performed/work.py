"""How an item's status follows the work on it.

As long as a procedure step on it is in progress it is STARTED. When none is, it is COMPLETED if one of its steps was
completed, else DISCONTINUED. So of two modalities on one item the last to end decides.
"""

from sqlalchemy import Connection, select

from worklist import store
from worklist.items import Item, Status
from worklist.performed.requirements import StepStatus
from worklist.performed.tables import STEP_ITEMS, STEPS

# What of all its steps decides about an item: the first of these that one of them has.
_DECIDES = (
    (StepStatus.IN_PROGRESS, Status.STARTED),
    (StepStatus.COMPLETED, Status.COMPLETED),
    (StepStatus.DISCONTINUED, Status.DISCONTINUED),
)


def follow(connection: Connection, item: Item, change: store.Change, reason: str) -> Item:
    """Give an item the status that its steps have together; return it as it is then."""
    steps = step_statuses(connection, item.id)
    wanted = next((status for decisive, status in _DECIDES if decisive in steps), None)
    return item if wanted is None else store.set_status(connection, item, wanted, change, reason)


def step_statuses(connection: Connection, item: int) -> set[StepStatus]:
    """The statuses of the steps on an item."""
    query = select(STEPS.c.status).join(STEP_ITEMS, STEP_ITEMS.c.step == STEPS.c.id).where(STEP_ITEMS.c.item == item)
    return {StepStatus(text) for text in connection.scalars(query.distinct())}
