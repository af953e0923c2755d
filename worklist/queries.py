"""A query of the Modality Worklist (PS3.4 Annex K): which items match, and what of them is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway import waiting
from gateway.database import Database
from gateway.matching.answers import private_creators
from gateway.matching.attributes import Attributes, is_private_creator
from gateway.matching.identifier import SPECIFIC_CHARACTER_SET, key_of
from gateway.matching.keys import InvalidQuery, Key
from gateway.matching.matcher import WILDCARD_VRS, Matcher
from worklist import items, matching_keys
from worklist.candidates import Selection, candidates
from worklist.items import SCHEDULED_PROCEDURE_STEP_SEQUENCE, SCHEDULED_PROCEDURE_STEP_STATUS, Item, Status
from worklist.responses import response
from worklist.scheduled_start import ScheduledStart

# What dcm4chee hides too, unless a query asks for a status: steps that have begun or that will not be.
HIDDEN_STATUSES: Final = frozenset(
    {Status.STARTED, Status.DEPARTED, Status.CANCELED, Status.DISCONTINUED, Status.COMPLETED}
)
# Lists are for UIDs mostly, and short; each value is compared with each item.
MAXIMUM_VALUES: Final = 1000


@dataclass(frozen=True, slots=True)
class View:
    """What a caller can see of the worklist, whatever it asks for."""

    # In place of what is asked for in Scheduled Station AE Title; None leaves it.
    station: str | None = None
    # Worklist Labels; None for all.
    partitions: Collection[str] | None = None
    hidden_statuses: frozenset[Status] = HIDDEN_STATUSES
    case_sensitive_pn: bool = False


class WorklistQuery:
    """The keys of one query, made ready. Raises InvalidQuery."""

    def __init__(self, keys: tuple[Key, ...], view: View) -> None:
        self.keys = keys
        # Tags of keys with a value that is not compared: an answer is 0xFF01 for them (PS3.4 K.4.1.1.4).
        self.unsupported: list[int] = []
        if all(key.tag == SPECIFIC_CHARACTER_SET or not key.tag & 0xFFFF for key in keys):
            raise InvalidQuery("the identifier asks for nothing", mismatch=True)
        matched = self._matched(keys, matching_keys.ATTRIBUTES)
        step = key_of(matched, SCHEDULED_PROCEDURE_STEP_SEQUENCE)
        step_keys = step.items if step is not None else ()
        if view.station is not None:
            station = Key(items.SCHEDULED_STATION_AE_TITLE, "AE", view.station)
            step_keys = (*_without(step_keys, items.SCHEDULED_STATION_AE_TITLE), station)
        self._start = ScheduledStart(key_of(step_keys, items.SCHEDULED_DATE), key_of(step_keys, items.SCHEDULED_TIME))
        asks_for_status = _asks_for_status(keys)
        self._hidden: frozenset[Status] = frozenset() if asks_for_status else view.hidden_statuses
        item_keys = _without(matched, SCHEDULED_PROCEDURE_STEP_SEQUENCE)
        # What is compared: of the item, and of its Scheduled Procedure Step.
        self.compared = (*item_keys, *step_keys)
        self.selection = self._selection(item_keys, step_keys, view)
        try:
            self._of_item = Matcher(item_keys, case_sensitive_pn=view.case_sensitive_pn)
            self._of_step = Matcher(
                _without(step_keys, items.SCHEDULED_DATE, items.SCHEDULED_TIME),
                case_sensitive_pn=view.case_sensitive_pn,
            )
        except InvalidQuery as error:
            # a value that its VR does not allow: the identifier does not match the SOP class (PS3.4 K.4.1.1.4)
            error.mismatch = True
            raise

    def matches(self, item: Item) -> bool:
        """Whether the item is one of the answers."""
        step = item.step
        return (
            item.status not in self._hidden
            and self._of_step.matches(step)
            and self._start.matches(step)
            and self._of_item.matches(item.attributes)
        )

    def response(self, item: Item) -> Attributes:
        """What of the item was asked for, ready to be encoded for `keys`."""
        return {**response(self.keys, item.attributes, matching_keys.ATTRIBUTES), **private_creators(self.keys)}

    def find(self, database: Database, taken: Callable[[Item], None] | None = None) -> Iterator[Attributes]:
        """Yield the responses in the order of scheduled date and time. Raises DatabaseError at any time.

        `taken` is told of each when the caller is done with it.
        """
        for item in candidates(database, self.selection):
            waiting.listen()
            if self.matches(item):
                yield self.response(item)
                if taken is not None:
                    taken(item)

    def _matched(self, keys: Iterable[Key], attributes: matching_keys.Attributes) -> tuple[Key, ...]:
        """The keys that are compared; the tags of others that have a value are noted."""
        matched: dict[int, Key] = {}
        seen: set[int] = set()
        for key in keys:
            if key.tag in seen:
                raise InvalidQuery("more than once in the identifier", key.tag)
            seen.add(key.tag)
            if _is_structural(key.tag):
                continue
            attribute = attributes.get(key.tag)
            if attribute is not None and matching_keys.is_sequence(key.tag) != (key.vr == "SQ"):
                raise InvalidQuery("of another value representation", key.tag, mismatch=True)
            if key.vr == "SQ":
                inner = self._matched(key.items, attribute.items if attribute is not None else {})
                if attribute is not None and inner:
                    matched[key.tag] = replace(key, items=inner)
            elif not key.is_universal:
                if attribute is not None and attribute.is_matched:
                    matched[key.tag] = _normal(key)
                else:
                    self.unsupported.append(key.tag)
        return tuple(matched.values())

    def _selection(self, item_keys: tuple[Key, ...], step_keys: tuple[Key, ...], view: View) -> Selection:
        first_day, last_day = self._start.days
        return Selection(
            stations=_exact(step_keys, items.SCHEDULED_STATION_AE_TITLE),
            first_day=first_day,
            last_day=last_day,
            modalities=_exact(step_keys, items.MODALITY),
            patient_ids=_exact(item_keys, items.PATIENT_ID),
            patient_name=_only_value(item_keys, items.PATIENT_NAME),
            accession_numbers=_exact(item_keys, items.ACCESSION_NUMBER),
            requested_procedure_ids=_exact(item_keys, items.REQUESTED_PROCEDURE_ID),
            scheduled_procedure_step_ids=_exact(step_keys, items.SCHEDULED_PROCEDURE_STEP_ID),
            study_instance_uids=_exact(item_keys, items.STUDY_INSTANCE_UID),
            patterns={
                column: pattern
                for keys, tag, column in (
                    (item_keys, items.PATIENT_ID, "patient_id"),
                    (item_keys, items.ACCESSION_NUMBER, "accession_number"),
                    (item_keys, items.REQUESTED_PROCEDURE_ID, "requested_procedure_id"),
                    (step_keys, items.SCHEDULED_PROCEDURE_STEP_ID, "scheduled_procedure_step_id"),
                )
                if "*" in (pattern := _only_value(keys, tag)) or "?" in pattern
            },
            statuses=self._statuses(step_keys),
            partitions=view.partitions,
        )

    def _statuses(self, step_keys: tuple[Key, ...]) -> list[Status] | None:
        if self._hidden:
            return [status for status in Status if status not in self._hidden]
        wanted = _exact(step_keys, SCHEDULED_PROCEDURE_STEP_STATUS)
        return [status for status in Status if status in wanted] if wanted is not None else None


def _is_structural(tag: int) -> bool:
    """Whether an attribute speaks of others: character set, group lengths, private creators."""
    return tag == SPECIFIC_CHARACTER_SET or not tag & 0xFFFF or is_private_creator(tag)


def _normal(key: Key) -> Key:
    if len(key.values) > MAXIMUM_VALUES:
        raise InvalidQuery(f"more than {MAXIMUM_VALUES} values", key.tag, mismatch=True)
    # PS3.5 6.2: CS has upper case letters only, but modalities are configured by hand
    return replace(key, value=key.value.upper()) if key.vr == "CS" else key


def _asks_for_status(keys: tuple[Key, ...]) -> bool:
    """Whether the query has a Scheduled Procedure Step Status with a value, `*` included."""
    step = key_of(keys, SCHEDULED_PROCEDURE_STEP_SEQUENCE)
    status = key_of(step.items, SCHEDULED_PROCEDURE_STEP_STATUS) if step is not None else None
    return status is not None and bool(status.values)


def _without(keys: Iterable[Key], *tags: int) -> tuple[Key, ...]:
    return tuple(key for key in keys if key.tag not in tags)


def _exact(keys: tuple[Key, ...], tag: int) -> tuple[str, ...] | None:
    """The values of a key if it matches only what is equal to one of them, and SQL can compare them."""
    key = key_of(keys, tag)
    if key is None:
        return None
    if key.vr in WILDCARD_VRS and any("*" in value or "?" in value for value in key.values):
        return None
    return key.values if all(map(_is_comparable, key.values)) else None


def _only_value(keys: tuple[Key, ...], tag: int) -> str:
    """The value of a key that has one, and that SQL can compare."""
    key = key_of(keys, tag)
    values = key.values if key is not None else ()
    return values[0] if len(values) == 1 and _is_comparable(values[0]) else ""


def _is_comparable(value: str) -> bool:
    return len(value) < items.MAXIMUM_KEY_CHARACTERS and "\0" not in value
