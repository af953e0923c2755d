"""Which messages are acted on, and by whom."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from gateway.options.config import Configuration
from gateway.options.orders import OrderSection
from worklist.hl7.errors import ErrorCode, MessageError, NotSupported
from worklist.hl7.handling import Handler, Received, Result
from worklist.orders.groups import appointment, orders
from worklist.orders.order_control import APPOINTMENT_EVENTS, effect_of, order_effect
from worklist.orders.orders import Orders
from worklist.orders.patients import apply_event
from worklist.orders.reports import apply_report
from worklist.orders.task import Rules, Task

# Type to the events that belong to it; a message without an event is taken for one of them.
ORDER_MESSAGES: Final[dict[str, tuple[str, ...]]] = {"ORM": ("O01",), "OMG": ("O19",), "OMI": ("O23",)}


class OrderHandler:
    """Acts on messages as the options of who sent them say."""

    def __init__(self, section: OrderSection, default_character_set: str) -> None:
        self._default_character_set = default_character_set
        self._rules = Rules(section)
        self._rules_of = {name: Rules(section.of_application(name)) for name in section.applications}

    def handle(self, received: Received, connection: Connection) -> Result:
        """See worklist.hl7.handling.Handler."""
        header = received.header
        rules = self._rules_of.get(header.component(3, 1), self._rules)
        act = _action(header.message_type, header.trigger_event, rules)
        task = Task(received, connection, rules, self._default_character_set)
        act(task)
        return task.notes.result()


def make_handler(configuration: Configuration) -> Handler:
    """The handler of a gateway with `DicomGateway.Hl7`."""
    section = configuration.gateway.hl7
    if section is None:
        raise ValueError("DicomGateway.Hl7 is not configured")
    return OrderHandler(section, section.default_character_set)


def _action(message_type: str, event: str, rules: Rules) -> Callable[[Task], None]:
    """Raises NotSupported."""
    if message_type == "ADT":
        return lambda task: apply_event(task, event)
    if message_type in ORDER_MESSAGES and event in ("", *ORDER_MESSAGES[message_type]):
        return _apply_orders
    if message_type == "SIU" and event in APPOINTMENT_EVENTS:
        return lambda task: _apply_appointment(task, event)
    if message_type == "ORU" and event in ("", "R01") and rules.reports_complete:
        return apply_report
    if not rules.rejects_other_messages:
        # Senders that send all they have stop at the first AR, and the orders behind it wait.
        return _note_without_effect
    if message_type in ("SIU", *ORDER_MESSAGES):
        raise NotSupported(ErrorCode.UNSUPPORTED_EVENT_CODE, f"{message_type}^{event[:8]} is not supported")
    raise NotSupported(ErrorCode.UNSUPPORTED_MESSAGE_TYPE, f"{message_type[:8] or 'this'} is not supported")


def _note_without_effect(task: Task) -> None:
    task.notes.remark(f"{task.received.header.type_and_event[:16]} changes nothing here")


def _apply_orders(task: Task) -> None:
    found = orders(task.segments)
    if not found:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "ORC^1", "an order needs ORC")
    _check_one_patient(task)
    work = Orders(task)
    for order in found:
        work.apply(order, order_effect(order.part, task.rules.order_control))
    work.finish()


def _apply_appointment(task: Task, event: str) -> None:
    order = appointment(task.segments)
    if order.part.first("SCH") is None:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "SCH^1", "an appointment needs SCH")
    _check_one_patient(task)
    effect = effect_of(APPOINTMENT_EVENTS[event], "", task.rules.order_control)
    work = Orders(task)
    work.apply(order, effect or "IGNORE")
    work.finish()


def _check_one_patient(task: Task) -> None:
    """A second patient must not get lost, nor his orders become the first one's."""
    if any(segment.name == "PID" and segment.number > 1 for segment in task.segments):
        raise MessageError(
            ErrorCode.SEGMENT_SEQUENCE_ERROR, "PID^2", "one patient in a message: send one message for each"
        )
