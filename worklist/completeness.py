"""What an item must have before a modality may see it: PS3.4 table K.6-1, return keys of type 1 and 1C."""

from collections.abc import Callable
from typing import Final

from pydicom.datadict import keyword_for_tag

from gateway.matching.attributes import Attributes
from worklist import items
from worklist.items import step_of, text_of

SCHEDULED_PROCEDURE_STEP_DESCRIPTION: Final = 0x0040_0007
SCHEDULED_PROTOCOL_CODE_SEQUENCE: Final = 0x0040_0008
REQUESTED_PROCEDURE_DESCRIPTION: Final = 0x0032_1060
REQUESTED_PROCEDURE_CODE_SEQUENCE: Final = 0x0032_1064

# Each line: the attributes of which one at least has a value.
_OF_THE_STEP: Final[tuple[tuple[int, ...], ...]] = (
    (items.SCHEDULED_STATION_AE_TITLE,),
    (items.SCHEDULED_DATE,),
    (items.SCHEDULED_TIME,),
    (items.MODALITY,),
    (items.SCHEDULED_PROCEDURE_STEP_ID,),
    (SCHEDULED_PROCEDURE_STEP_DESCRIPTION, SCHEDULED_PROTOCOL_CODE_SEQUENCE),
)
_OF_THE_ITEM: Final[tuple[tuple[int, ...], ...]] = (
    (items.REQUESTED_PROCEDURE_ID,),
    (REQUESTED_PROCEDURE_DESCRIPTION, REQUESTED_PROCEDURE_CODE_SEQUENCE),
    (items.STUDY_INSTANCE_UID,),
    (items.PATIENT_NAME,),
    (items.PATIENT_ID,),
)


def missing(attributes: Attributes) -> tuple[tuple[int, ...], ...]:
    """What is missing: for each the tags of which one would do. Empty for a complete item."""
    element = attributes.get(items.SCHEDULED_PROCEDURE_STEP_SEQUENCE)
    if element is None or isinstance(element.value, str) or len(element.value) != 1:
        return ((items.SCHEDULED_PROCEDURE_STEP_SEQUENCE,),)
    return tuple(
        tags
        for has, table in ((_having(step_of(attributes)), _OF_THE_STEP), (_having(attributes), _OF_THE_ITEM))
        for tags in table
        if not any(map(has, tags))
    )


def describe(tags: tuple[tuple[int, ...], ...]) -> str:
    """What `missing` returned, by keywords."""
    return ", ".join(" or ".join(map(keyword_for_tag, alternatives)) for alternatives in tags)


def _having(attributes: Attributes) -> Callable[[int], bool]:
    def has(tag: int) -> bool:
        element = attributes.get(tag)
        if element is None:
            return False
        return bool(text_of(attributes, tag) if isinstance(element.value, str) else element.value)

    return has
