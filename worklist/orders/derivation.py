"""What an order does not say and an item must have: made from what it says, always the same.

Each rule has one line in docs/hl7.md.
"""

import uuid
from typing import Final

from gateway.matching.attributes import Attributes, Element
from worklist import items
from worklist.completeness import REQUESTED_PROCEDURE_DESCRIPTION, SCHEDULED_PROCEDURE_STEP_DESCRIPTION
from worklist.items import text_of
from worklist.orders.texts import short
from worklist.orders.timestamps import Timestamp, offset_text

# The name space of the UUIDs that Study Instance UIDs are made of (PS3.5 B.2): never to be changed.
_STUDIES: Final = uuid.UUID("b2f6c2a4-6d0e-5c1b-9a43-0f6f0d1e7c58")
TIMEZONE_OFFSET: Final = 0x0008_0201
_NUMBERS: Final = (items.FILLER_ORDER_NUMBER, items.PLACER_ORDER_NUMBER)


def derive_identifiers(order: Attributes, step: Attributes, origin: str, number: int) -> frozenset[int]:
    """Complete the identifiers; return the tags of those that were made.

    `origin` is who sent the order: others use the same numbers. `number` is the step's place in the order.

    Accession Number is the filler order number, else the placer's. Requested Procedure ID is the Accession Number,
    Scheduled Procedure Step ID is the Requested Procedure ID, with the number of the step from the second on. Study
    Instance UID is made of the Requested Procedure ID and the sender.
    """
    derived: set[int] = set()
    accession = text_of(order, items.ACCESSION_NUMBER) or next(
        (short(text) for tag in _NUMBERS if (text := text_of(order, tag))), ""
    )
    procedure = text_of(order, items.REQUESTED_PROCEDURE_ID) or accession
    study = text_of(order, items.STUDY_INSTANCE_UID)
    if not procedure and study:
        procedure = short(study)
    for attributes, tag, vr, text in (
        (order, items.ACCESSION_NUMBER, "SH", accession),
        (order, items.REQUESTED_PROCEDURE_ID, "SH", procedure),
        (order, items.STUDY_INSTANCE_UID, "UI", study or (_study_uid(origin, procedure) if procedure else "")),
        (step, items.SCHEDULED_PROCEDURE_STEP_ID, "SH", step_id(procedure, number)),
    ):
        if text and not text_of(attributes, tag):
            attributes[tag] = Element(vr, text)
            derived.add(tag)
    return frozenset(derived)


def step_id(procedure: str, number: int) -> str:
    """The Scheduled Procedure Step ID of a step that no message names; "" without a Requested Procedure ID."""
    return short(f"{procedure}-{number}" if number > 1 else procedure) if procedure else ""


def derive_start(order: Attributes, step: Attributes, sent: Timestamp) -> None:
    """An order without a time is for now: when its message was sent."""
    if text_of(step, items.SCHEDULED_DATE):
        return
    step[items.SCHEDULED_DATE] = Element("DA", sent.date)
    step[items.SCHEDULED_TIME] = Element("TM", sent.time or "000000")
    if sent.offset is not None:
        order[TIMEZONE_OFFSET] = Element("SH", offset_text(sent.offset))


def derive_descriptions(order: Attributes, step: Attributes) -> None:
    """Requested procedure and step describe each other."""
    procedure = text_of(order, REQUESTED_PROCEDURE_DESCRIPTION)
    described = text_of(step, SCHEDULED_PROCEDURE_STEP_DESCRIPTION)
    if described and not procedure:
        order[REQUESTED_PROCEDURE_DESCRIPTION] = Element("LO", described)
    if procedure and not described:
        step[SCHEDULED_PROCEDURE_STEP_DESCRIPTION] = Element("LO", procedure)


def _study_uid(origin: str, procedure: str) -> str:
    return f"2.25.{uuid.uuid5(_STUDIES, f'{origin}|{procedure}').int}"
