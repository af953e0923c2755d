"""Items that a person enters: attributes by keyword, as Orthanc's REST API takes them, and what follows from them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydicom.datadict import keyword_dict
from pydicom.uid import generate_uid

from gateway.matching.attributes import Attributes, Element, vr_of
from worklist import completeness, items
from worklist.items import SCHEDULED_PROCEDURE_STEP_SEQUENCE, first_item, step_of, text_of

MAXIMUM_DEPTH: Final = 8


class EntryError(Exception):
    """What was entered is no item. The text is one line for a person."""


def attributes_from(tags: Mapping[str, Any], depth: int = 0) -> Attributes:
    """Attributes from {"PatientName": "DOE^JANE", "ScheduledProcedureStepSequence": [{...}]}, in Unicode.

    Also by tag, "0010,0010" or "00100010". Raises EntryError.
    """
    if depth > MAXIMUM_DEPTH:
        raise EntryError(f"more than {MAXIMUM_DEPTH} nested sequences")
    found: Attributes = {}
    for name, value in tags.items():
        tag = _tag(name)
        vr = vr_of(tag)
        if vr == "SQ":
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise EntryError(f"{name}: expected a list of objects")
            found[tag] = Element("SQ", tuple(attributes_from(item, depth + 1) for item in value))
        elif isinstance(value, str):
            found[tag] = Element(vr, value)
        else:
            raise EntryError(f"{name}: expected text")
    return found


def _tag(name: str) -> int:
    known = keyword_dict.get(name)
    if known is not None:
        return int(known)
    digits = name.replace(",", "")
    try:
        return int(digits, 16) if len(digits) == 8 else _unknown(name)
    except ValueError:
        return _unknown(name)


def _unknown(name: str) -> int:
    raise EntryError(f"{name}: no attribute of PS3.6")


def merged(attributes: Attributes, others: Attributes) -> Attributes:
    """`attributes` with `others` over them, also within the Scheduled Procedure Step Sequence."""
    result = {**attributes, **others}
    if SCHEDULED_PROCEDURE_STEP_SEQUENCE in others:
        step = {**step_of(attributes), **step_of(others)}
        result[SCHEDULED_PROCEDURE_STEP_SEQUENCE] = Element("SQ", (step,))
    return result


def completed(attributes: Attributes, now: datetime) -> Attributes:
    """The item with what can be made up for what is missing: identifiers, descriptions, now as the time.

    Raises EntryError for what has to be said by somebody.
    """
    item, step = dict(attributes), dict(step_of(attributes))

    def default(of: Attributes, tag: int, value: str) -> None:
        if value and not text_of(of, tag):
            of[tag] = Element(vr_of(tag), value)

    default(item, items.STUDY_INSTANCE_UID, str(generate_uid(prefix=None)))
    default(item, items.REQUESTED_PROCEDURE_ID, text_of(item, items.ACCESSION_NUMBER))
    default(item, items.REQUESTED_PROCEDURE_ID, now.strftime("R%y%m%d%H%M%S"))
    default(step, items.SCHEDULED_PROCEDURE_STEP_ID, text_of(item, items.REQUESTED_PROCEDURE_ID))
    default(step, items.SCHEDULED_DATE, now.strftime("%Y%m%d"))
    default(step, items.SCHEDULED_TIME, now.strftime("%H%M"))
    if not first_item(item, completeness.REQUESTED_PROCEDURE_CODE_SEQUENCE):
        described = text_of(step, completeness.SCHEDULED_PROCEDURE_STEP_DESCRIPTION)
        default(item, completeness.REQUESTED_PROCEDURE_DESCRIPTION, described)
    if not first_item(step, completeness.SCHEDULED_PROTOCOL_CODE_SEQUENCE):
        described = text_of(item, completeness.REQUESTED_PROCEDURE_DESCRIPTION)
        default(step, completeness.SCHEDULED_PROCEDURE_STEP_DESCRIPTION, described)
    item[SCHEDULED_PROCEDURE_STEP_SEQUENCE] = Element("SQ", (step,))
    if lacking := completeness.missing(item):
        raise EntryError(f"missing: {completeness.describe(lacking)}")
    return item
