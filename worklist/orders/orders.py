"""Orders to items: create, change, cancel."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from pydicom.datadict import keyword_for_tag

from gateway.matching.attributes import Attributes, Element, name_of
from gateway.options.orders import Effect
from worklist import completeness, items, store
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.items import SCHEDULED_PROCEDURE_STEP_SEQUENCE, Item, Status, step_of, text_of
from worklist.orders.derivation import derive_descriptions, derive_identifiers, derive_start
from worklist.orders.field_map import Level
from worklist.orders.groups import Order
from worklist.orders.identity import IDENTIFYING_TAGS, Identity, check_study, find_order
from worklist.orders.mapping import Mapped
from worklist.orders.memory import Known, Memory, Moment, recall_early, remember, remember_early
from worklist.orders.reader import Part
from worklist.orders.station_rules import STATION
from worklist.orders.statuses import cancel_absent, change_status
from worklist.orders.steps import Meant, find_step
from worklist.orders.task import Task

MAXIMUM_STEPS: Final = 200


class Orders:
    """The orders of one message, one after the other; `finish` at the end."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._touched: set[int] = set()
        # Items of orders that the message described as a whole, as far as they were there before.
        self._absent: dict[int, tuple[Known, Moment]] = {}
        # How many steps without an ID of their own an order has had so far.
        self._unnamed: Counter[str] = Counter()
        self._steps = 0

    def apply(self, order: Order, effect: Effect) -> None:
        """Do what an order asks for. Raises MessageError."""
        self._steps += len(order.steps)
        if self._steps > MAXIMUM_STEPS:
            raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "", f"more than {MAXIMUM_STEPS} steps in a message")
        if effect == "IGNORE":
            self._task.notes.remark("order control without effect")
            return
        moment = self._task.moment(order.part)
        for step in order.steps:
            if effect in ("CREATE", "UPDATE"):
                self._write(step, order, effect == "CREATE", moment)
            else:
                self.change_status(step, order, Status(effect), moment, remembers=True)

    def finish(self) -> None:
        """Cancel the steps that an order no longer has."""
        cancel_absent(self._task, (known for number, known in self._absent.items() if number not in self._touched))

    def _write(self, part: Part, order: Order, creates: bool, moment: Moment) -> None:
        task = self._task
        mapped = task.rules.field_map.read(part, task.context)
        identity = self._identify(mapped, part)
        found = find_order(task.connection, identity)
        said = text_of(mapped.step, items.SCHEDULED_PROCEDURE_STEP_ID)
        number = self._number(identity, said)
        meant = find_step(found, said, number, len(order.steps) == 1 and number == 1, self._touched)
        replaces = not creates and task.rules.cancels_absent_steps and meant is not Meant.ALL_STEPS
        if replaces:
            self._absent.update({known.item.id: (known, moment) for known in found})
        writer = _Writer(task, part, mapped, identity, creates, moment, replaces)
        if meant is Meant.ALL_STEPS:
            mapped.step.clear()
            changed = [writer.change(known) for known in found if known.item.id not in self._touched]
        elif meant is Meant.NEW_STEP:
            changed = [writer.add(found, number)]
        else:
            changed = [writer.change(meant)]
        self._touched.update(known.item.id for known in changed)

    def change_status(self, part: Part, order: Order, status: Status, moment: Moment, *, remembers: bool) -> None:
        """Give the steps that are meant another status; one for an order that is not there is remembered if asked."""
        task = self._task
        mapped = task.rules.field_map.read(part, task.context, IDENTIFYING_TAGS)
        identity = self._identify(mapped, part)
        found = find_order(task.connection, identity)
        said = text_of(mapped.step, items.SCHEDULED_PROCEDURE_STEP_ID)
        number = self._number(identity, said)
        targets = found
        if said or order.step_segment:
            meant = find_step(found, said, number, len(order.steps) == 1 and number == 1, set())
            targets = [meant] if isinstance(meant, Known) else found if meant is Meant.ALL_STEPS else []
        for known in targets:
            self._touched.add(change_status(task, known, status, moment, "").item.id)
        if not targets:
            task.notes.remark("no such order in the worklist" + (": remembered" if remembers else ""))
            if remembers:
                remember_early(task.connection, identity.narrow_keys(), [said], status, moment, task.now_ns)

    def _identify(self, mapped: Mapped, part: Part) -> Identity:
        identity = Identity.of(mapped.attributes(), self._task.origin)
        if identity.is_empty:
            where = self._task.rules.field_map.location(items.PLACER_ORDER_NUMBER, part)
            raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, where, "an order needs a number of its own")
        return identity

    def _number(self, identity: Identity, said: str) -> int:
        if said:
            return 1
        self._unnamed[identity.number] += 1
        return self._unnamed[identity.number]


class _Writer:
    """Writes what a message says about one step."""

    def __init__(
        self,
        task: Task,
        part: Part,
        mapped: Mapped,
        identity: Identity,
        creates: bool,
        moment: Moment,
        names_all_steps: bool,
    ) -> None:
        self._task = task
        self._part = part
        self._mapped = mapped
        self._identity = identity
        self._creates = creates
        self._moment = moment
        self._names_all_steps = names_all_steps

    def add(self, order: Iterable[Known], number: int) -> Known:
        """A new item for a step, of an order that may have others."""
        task = self._task
        attributes, derived = self._complete(self._mapped.attributes(), number, frozenset(), is_known=False)
        # One that the message itself says has been looked for by find_order.
        if items.STUDY_INSTANCE_UID in derived:
            check_study(task.connection, text_of(attributes, items.STUDY_INSTANCE_UID), self._identity)
        status, said_at, why = self._first_status(order, attributes)
        item = store.add(task.connection, attributes, task.change, origin=task.origin, status=status)
        task.notes.changed(item.id, f"created as {status.value}{why}")
        memory = Memory(
            content=self._moment,
            status=said_at,
            patient=self._moment if self._creates else None,
            names_all_steps=self._names_all_steps,
            derived=derived,
        )
        return remember(task.connection, Known(item, memory), memory, is_new=True)

    def _first_status(self, order: Iterable[Known], attributes: Attributes) -> tuple[Status, Moment | None, str]:
        """The status of a new item: that of a message that has overtaken this one, if there was any."""
        step_id = text_of(step_of(attributes), items.SCHEDULED_PROCEDURE_STEP_ID)
        early = recall_early(self._task.connection, self._identity.keys(), step_id)
        if early is not None and (not self._creates or self._moment.is_older(early.moment)):
            return early.status, early.moment, ", by a message that came before"
        for known in order:
            if known.memory.names_all_steps and self._moment.is_older(known.memory.content):
                return Status.CANCELED, known.memory.content, ", by a message that came before"
        return Status.SCHEDULED, self._moment if self._creates else None, ""

    def change(self, known: Known) -> Known:
        """Change an item, as far as the message is not older than what it would change."""
        task, (item, memory) = self._task, known
        levels: set[Level] = set()
        if self._moment.is_older(memory.content):
            task.notes.remark("older than what it would change: no effect")
        else:
            levels |= {Level.ORDER, Level.STEP}
        of_patient = self._creates or task.rules.updates_change_patient
        if of_patient and not self._moment.is_older(memory.patient):
            levels |= {Level.PATIENT, Level.VISIT}
        if levels:
            known = self._replace(item, memory, levels)
        if self._creates:
            known = change_status(task, known, Status.SCHEDULED, self._moment, "ordered again")
        return known

    def _replace(self, item: Item, memory: Memory, levels: set[Level]) -> Known:
        task = self._task
        said = self._mapped.attributes(*levels)
        step = {**item.step, **step_of(said)}
        merged = {**item.attributes, **said, SCHEDULED_PROCEDURE_STEP_SEQUENCE: Element("SQ", (step,))}
        derived = memory.derived - {tag for tag in (*said, *step_of(said)) if text_of(step_of(said) | said, tag)}
        attributes, derived = self._complete(merged, 1, derived, is_known=True)
        before = memory
        if text_of(attributes, items.STUDY_INSTANCE_UID) != item.keys.study_instance_uid:
            check_study(task.connection, text_of(attributes, items.STUDY_INSTANCE_UID), self._identity)
        changed = store.replace(task.connection, item, attributes, task.change)
        if changed is not item:
            task.notes.changed(item.id, "changed")
        if Level.ORDER in levels:
            memory = replace(memory, content=self._moment, names_all_steps=self._names_all_steps, derived=derived)
        if Level.PATIENT in levels:
            memory = replace(memory, patient=self._moment)
        return remember(task.connection, Known(changed, before), memory)

    def _complete(
        self, said: Attributes, number: int, derived: frozenset[int], *, is_known: bool
    ) -> tuple[Attributes, frozenset[int]]:
        """An item that a modality may see. Raises MessageError if it cannot become one."""
        task = self._task
        order, step = without_empty(said), without_empty(step_of(said))
        step, derived = self._with_station(order, step, derived, is_known)
        derived |= derive_identifiers(order, step, task.application, number)
        derive_start(order, step, task.sent)
        derive_descriptions(order, step)
        attributes = {**order, SCHEDULED_PROCEDURE_STEP_SEQUENCE: Element("SQ", (step,))}
        for tags in completeness.missing(attributes):
            self._refuse(tags)
        return attributes, derived

    def _with_station(
        self, order: Attributes, step: Attributes, derived: frozenset[int], is_known: bool
    ) -> tuple[Attributes, frozenset[int]]:
        """What the rules give to an order that does not say it. What they gave before they give anew."""
        said = {tag: element for tag, element in step.items() if tag not in derived & STATION}
        attributes = {**order, SCHEDULED_PROCEDURE_STEP_SEQUENCE: Element("SQ", (said,))}
        found = self._task.rules.station_rules.find(self._part, attributes, is_known=is_known)
        if found is None:
            return step, derived
        given = {tag: element for tag, element in found.items() if not text_of(said, tag)}
        return {**said, **given}, derived - STATION | given.keys()

    def _refuse(self, tags: tuple[int, ...]) -> None:
        field_map = self._task.rules.field_map
        if tags[0] == items.SCHEDULED_STATION_AE_TITLE:
            hint = ": IPC-9, StationRules"
        else:
            fields = field_map.describe(tags[0])
            hint = f": {fields}" if fields else ""
        raise MessageError(
            ErrorCode.REQUIRED_FIELD_MISSING,
            field_map.location(tags[0], self._part),
            f"{' or '.join(map(_keyword, tags))} is missing{hint}",
        )


def _keyword(tag: int) -> str:
    return f"{keyword_for_tag(tag)} {name_of(tag)}"


def without_empty(attributes: Attributes) -> Attributes:
    """What has a value. What a message deletes is not kept as an empty attribute."""
    return {tag: element for tag, element in attributes.items() if element.value}
