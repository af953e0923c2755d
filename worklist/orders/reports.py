"""ORU^R01: a final report completes what it is about, if the site wants it."""

from typing import Final

from worklist.hl7.errors import ErrorCode, MessageError
from worklist.items import Status
from worklist.orders.groups import orders
from worklist.orders.orders import Orders
from worklist.orders.task import Task

# Table 0123 (OBR-25): final, and corrected after it was.
_FINAL: Final = frozenset(("F", "C"))


def apply_report(task: Task) -> None:
    """Complete the items of final reports. Raises MessageError."""
    found = orders(task.segments)
    if not found:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "OBR^1", "a report needs OBR")
    work = Orders(task)
    for order in found:
        if order.part.text("OBR", 25).strip().upper() in _FINAL:
            moment = task.moment(order.part)
            work.change_status(order.part, order, Status.COMPLETED, moment, remembers=False)
        else:
            task.notes.remark("not a final report: no effect")
