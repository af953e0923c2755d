"""What becomes of orders: the part of `DicomGateway.Hl7` that a sending application can have of its own."""

import zoneinfo
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

from gateway.options.hl7_sources import parse_source
from gateway.options.section import Section

STEP: Final = "ScheduledProcedureStepSequence"
# What the gateway decides about itself.
_NOT_MAPPED: Final = frozenset({"SpecificCharacterSet", STEP, "ScheduledProcedureStepStatus"})
_VRS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "IS", "LO", "LT", "PN", "SH", "SQ", "ST", "TM", "UC", "UI", "US", "UT")
)
_TEXT_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
MAXIMUM_RULES: Final = 1000

Effect = Literal[
    "CREATE",
    "UPDATE",
    "SCHEDULED",
    "ARRIVED",
    "READY",
    "STARTED",
    "DEPARTED",
    "CANCELED",
    "DISCONTINUED",
    "COMPLETED",
    "IGNORE",
]
PatientEffect = Literal["UPDATE", "MERGE", "ARRIVE", "IGNORE"]


def tag_of(keyword: str) -> int:
    """The tag of an attribute, `Keyword` or `ScheduledProcedureStepSequence.Keyword`. Raises ValueError."""
    name = keyword.removeprefix(f"{STEP}.")
    tag = tag_for_keyword(name)
    if tag is None or name in _NOT_MAPPED or dictionary_VR(tag)[:2] not in _VRS:
        raise ValueError(f'"{keyword[:64]}" is not the keyword of an attribute that can be mapped')
    return tag


def _check_attribute(keyword: str) -> str:
    tag_of(keyword)
    return keyword


def _check_source(text: str) -> str:
    parse_source(text)
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_field_map(field_map: dict[str, list[str] | None]) -> dict[str, list[str] | None]:
    for keyword, sources in field_map.items():
        vr = dictionary_VR(tag_of(keyword))[:2]
        for source in sources or ():
            if source.startswith("=") and not _is_fixed_text(vr, source[1:]):
                raise ValueError(f'{keyword}: "{source[:40]}" is no fixed text for VR {vr}')
    return field_map


def _is_fixed_text(vr: str, text: str) -> bool:
    if vr in ("US", "IS", "DS"):
        return text.isascii() and text.isdigit() and len(text) <= 4
    return vr in _TEXT_VRS and bool(text)


def _check_condition(name: str) -> str:
    """A condition is about a field of the message or about an attribute."""
    if "-" in name:
        parse_source(name)
    else:
        tag_of(name)
    return name


def _check_time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('expected a time zone such as "Europe/Paris"') from error
    return name


def _check_title(value: str) -> str:
    if any(not 32 <= ord(c) <= 126 or c == "\\" for c in value) or not value.strip():
        raise ValueError("expected an AE title of 1 to 16 printable ASCII characters")
    return value.strip()


Attribute = Annotated[str, AfterValidator(_check_attribute)]
Sources = Annotated[
    Annotated[list[Annotated[str, AfterValidator(_check_source)]], Field(max_length=20)] | None,
    BeforeValidator(_as_list),
]
Condition = Annotated[str, AfterValidator(_check_condition)]
Patterns = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1, max_length=200)]
OrderControl = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,3}(_[A-Z0-9]{1,3})?$")]
TriggerEvent = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2}$")]
StationTitle = Annotated[str, Field(max_length=16), AfterValidator(_check_title)]


class StationRule(Section):
    """One rule of `StationRules`: what an order gets that says nothing about it."""

    # Field or attribute to what it may be, with wildcards; all must hold.
    if_: dict[Condition, Patterns] = Field(default_factory=dict, alias="If")
    ae_title: StationTitle | None = Field(default=None, alias="AETitle")
    name: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    modality: Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")] | None = None

    @model_validator(mode="after")
    def _check_result(self) -> "StationRule":
        if self.ae_title is None and self.name is None and self.modality is None:
            raise ValueError("expected AETitle, Name or Modality")
        return self


class OrderOptions(Section):
    """How messages become worklist items; all of it can be said anew for a sending application."""

    field_map: Annotated[dict[Attribute, Sources], AfterValidator(_check_field_map)] = Field(default_factory=dict)
    order_control: dict[OrderControl, Effect] = Field(default_factory=dict)
    patient_events: dict[TriggerEvent, PatientEffect] = Field(default_factory=dict)
    station_rules: Annotated[list[StationRule], Field(max_length=MAXIMUM_RULES)] = Field(default_factory=list)
    assigning_authority: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    time_zone: Annotated[str, AfterValidator(_check_time_zone)] | None = None
    updates_change_patient: bool = False
    absent_steps: Literal["Cancel", "Leave"] = "Cancel"
    reports_complete: bool = False
    other_messages: Literal["Accept", "Reject"] = "Accept"


class OrderSection(OrderOptions):
    """The part of `DicomGateway.Hl7` that says how messages become worklist items."""

    applications: dict[Annotated[str, Field(min_length=1, max_length=227)], OrderOptions] = Field(default_factory=dict)

    def of_application(self, name: str) -> OrderOptions:
        """The options for a sending application (MSH-3.1): its own before those of all."""
        own = self.applications.get(name)
        if own is None:
            return self
        said = {field: getattr(own, field) for field in own.model_fields_set}
        for field in ("field_map", "order_control", "patient_events"):
            said[field] = {**getattr(self, field), **getattr(own, field)}
        said["station_rules"] = [*own.station_rules, *self.station_rules]
        common = {field: getattr(self, field) for field in OrderOptions.model_fields}
        return OrderOptions.model_construct(**{**common, **said})
