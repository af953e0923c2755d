"""From a change of an item to the message that tells it: ORM^O01 or OMG^O19 with ORC-1 SC.

HL7 2.5.1, chapters 3 and 4; IHE RAD TF-2 4.4 for where the identifiers stand. docs/hl7.md shows the fields.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from gateway import hl7_character_sets
from gateway.matching.attributes import Attributes
from gateway.options.hl7_receivers import ReceiverSection
from worklist import items
from worklist.feedback.writing import ENCODING_CHARACTERS, FIELD, SEGMENT_END, Writer
from worklist.items import Item, Status, first_item, step_of

# ORC-5, table 0038.
ORDER_STATUS: Final[dict[Status, str]] = {
    Status.SCHEDULED: "SC",
    Status.ARRIVED: "SC",
    Status.READY: "SC",
    Status.STARTED: "IP",
    Status.DEPARTED: "IP",
    Status.CANCELED: "CA",
    Status.DISCONTINUED: "DC",
    Status.COMPLETED: "CM",
}
# ORC-1, table 0119: status changed.
_STATUS_CHANGED: Final = "SC"
_ENDED: Final = (Status.DISCONTINUED, Status.COMPLETED)

_REFERRING_PHYSICIAN: Final = 0x0008_0090
_CODE_VALUE: Final = 0x0008_0100
_CODING_SCHEME: Final = 0x0008_0102
_CODE_MEANING: Final = 0x0008_0104
_LONG_CODE_VALUE: Final = 0x0008_0119
_ISSUER_QUALIFIERS: Final = 0x0010_0024
_BIRTH_DATE: Final = 0x0010_0030
_SEX: Final = 0x0010_0040
_OTHER_PATIENT_IDS: Final = 0x0010_1002
_REQUESTING_PHYSICIAN: Final = 0x0032_1032
_PROCEDURE_DESCRIPTION: Final = 0x0032_1060
_PROCEDURE_CODE: Final = 0x0032_1064
_ADMISSION_ID: Final = 0x0038_0010
_ISSUER_OF_ADMISSION_ID: Final = 0x0038_0014
_STEP_DESCRIPTION: Final = 0x0040_0007
_PROTOCOL_CODE: Final = 0x0040_0008
_UNIVERSAL_ENTITY_ID_TYPE: Final = 0x0040_0033
_IDENTIFIER_TYPE: Final = 0x0040_0035

# Table 0465, in the order of PN's component groups.
_REPRESENTATIONS: Final = ("A", "I", "P")
# The first versions whose MSH-9 has its third component.
_WITHOUT_STRUCTURE: Final = ("2.3",)


@dataclass(frozen=True, slots=True)
class Happened:
    """What a message tells. Instants are nanoseconds since 1970, 0 for what is not known."""

    # As it was then; its status is the new one.
    item: Item
    at: int
    started_at: int
    control_id: str


def write(happened: Happened, receiver: ReceiverSection, sent_at: int, zone: tzinfo | None) -> bytes:
    """The message for a receiver. Times are in `zone`; None is this machine's."""
    writer = Writer(hl7_character_sets.encoder_of(receiver.character_set) or "ascii")
    return b"".join(segment for segment in _Message(happened, receiver, writer, zone).segments(sent_at) if segment)


class _Message:
    def __init__(self, happened: Happened, receiver: ReceiverSection, writer: Writer, zone: tzinfo | None) -> None:
        self._happened = happened
        self._receiver = receiver
        self._writer = writer
        self._zone = zone
        self._attributes = happened.item.attributes
        self._keys = happened.item.keys

    def segments(self, sent_at: int) -> list[bytes]:
        return [self._msh(sent_at), self._pid(), self._pv1(), self._orc(), self._obr(), self._zds()]

    def _msh(self, sent_at: int) -> bytes:
        w, receiver = self._writer, self._receiver
        message_type, event = receiver.message.split("^")
        structure = f"{message_type}_{event}" if receiver.version not in _WITHOUT_STRUCTURE else ""
        character_sets = w.repetitions(map(w.text, receiver.character_set.split("~")))
        if receiver.character_set.startswith("~"):  # the first is ASCII, which is not named
            character_sets = b"~" + character_sets
        fields: list[bytes] = [
            b"MSH",
            ENCODING_CHARACTERS,
            w.designator(receiver.sending_application),
            w.designator(receiver.sending_facility),
            w.designator(receiver.receiving_application),
            w.designator(receiver.receiving_facility),
            w.text(self._time(sent_at)),
            b"",
            w.components(message_type, event, structure),
            w.text(self._happened.control_id),
            b"P",
            w.text(receiver.version),
            *[b""] * 5,
            character_sets,
        ]
        return FIELD.join(fields) + SEGMENT_END

    def _pid(self) -> bytes:
        w, attributes = self._writer, self._attributes
        others = attributes.get(_OTHER_PATIENT_IDS)
        patients = [attributes, *(others.value if others and not isinstance(others.value, str) else ())]
        return w.segment(
            "PID",
            {
                1: "1",
                3: w.repetitions(self._patient_id(patient) for patient in patients),
                5: self._patient_name(),
                7: _text(attributes, _BIRTH_DATE),
                8: _text(attributes, _SEX),
            },
        )

    def _patient_id(self, attributes: Attributes) -> bytes:
        """CX: its issuer is CX.4, its kind CX.5."""
        identifier = _text(attributes, items.PATIENT_ID)
        if not identifier:
            return b""
        qualifiers = first_item(attributes, _ISSUER_QUALIFIERS)
        universal, kind = (_text(qualifiers, tag) for tag in (items.UNIVERSAL_ENTITY_ID, _UNIVERSAL_ENTITY_ID_TYPE))
        issuer = _text(attributes, items.ISSUER_OF_PATIENT_ID)
        if issuer == universal:  # CX.4.1 was empty
            issuer = ""
        authority = self._writer.subcomponents(issuer, universal, kind)
        return self._writer.components(identifier, "", "", authority, _text(qualifiers, _IDENTIFIER_TYPE))

    def _patient_name(self) -> bytes:
        """XPN, for each component group of PN a repetition (PS3.5 6.2.1). HL7 has the suffix before the prefix."""
        groups = _text(self._attributes, items.PATIENT_NAME).split("=")[: len(_REPRESENTATIONS)]
        has_several = sum(map(bool, groups)) > 1 or not groups[0]
        names = []
        for group, representation in zip(groups, _REPRESENTATIONS, strict=False):
            if group:
                family, given, middle, suffix, prefix = _name(group)
                kind = ("", "L", representation) if has_several else ()
                names.append(self._writer.components(family, given, middle, suffix, prefix, *kind))
        return self._writer.repetitions(names)

    def _pv1(self) -> bytes:
        """The visit, as far as it identifies something. PV1-2 is required: U is unknown."""
        w, attributes = self._writer, self._attributes
        admission = _text(attributes, _ADMISSION_ID)
        if not admission:
            return b""
        issuer = first_item(attributes, _ISSUER_OF_ADMISSION_ID)
        number = w.components(admission, "", "", self._designator(issuer))
        return w.segment("PV1", {1: "1", 2: "U", 8: self._physician(_REFERRING_PHYSICIAN), 19: number})

    def _orc(self) -> bytes:
        fields: dict[int, str | bytes] = {
            1: _STATUS_CHANGED,
            2: self._placer(),
            3: self._filler(),
            5: ORDER_STATUS[self._happened.item.status],
            9: self._time(self._happened.at),
        }
        return self._writer.segment("ORC", fields)

    def _obr(self) -> bytes:
        happened, keys = self._happened, self._keys
        has_ended = happened.item.status in _ENDED
        fields: dict[int, str | bytes] = {
            1: "1",
            2: self._placer(),
            3: self._filler(),
            4: self._procedure(),
            7: self._time(happened.started_at),
            8: self._time(happened.at) if has_ended and happened.started_at else "",
            16: self._physician(_REQUESTING_PHYSICIAN),
            18: keys.accession_number,
            19: keys.requested_procedure_id,
            20: keys.scheduled_procedure_step_id,
            22: self._time(happened.at),
            24: keys.modality,
        }
        return self._writer.segment("OBR", fields)

    def _zds(self) -> bytes:
        """IHE RAD TF-2 4.4.4.1.2: Study Instance UID as a reference pointer."""
        uid = self._keys.study_instance_uid
        application = self._receiver.sending_application.split("^")[0]
        pointer = self._writer.components(uid, application, "Application", "DICOM")
        return self._writer.segment("ZDS", {1: pointer}) if uid else b""

    def _placer(self) -> bytes:
        number = _text(self._attributes, items.PLACER_ORDER_NUMBER)
        return self._entity(number, first_item(self._attributes, items.ORDER_PLACER_IDENTIFIER_SEQUENCE))

    def _filler(self) -> bytes:
        number = _text(self._attributes, items.FILLER_ORDER_NUMBER)
        return self._entity(number, first_item(self._attributes, items.ORDER_FILLER_IDENTIFIER_SEQUENCE))

    def _entity(self, number: str, namespace: Attributes) -> bytes:
        """EI."""
        return self._writer.components(number, *_hierarchic(namespace)) if number else b""

    def _designator(self, namespace: Attributes) -> bytes:
        """HD in sub-components."""
        return self._writer.subcomponents(*_hierarchic(namespace))

    def _procedure(self) -> bytes:
        """CE: what was requested, and behind it the protocol, where orders have them too."""
        step = step_of(self._attributes)
        requested = _code(first_item(self._attributes, _PROCEDURE_CODE))
        description = _text(self._attributes, _PROCEDURE_DESCRIPTION) or _text(step, _STEP_DESCRIPTION)
        if not any(requested):
            requested = ("", description, "")
        protocol = _code(first_item(step, _PROTOCOL_CODE))
        return self._writer.components(*requested, *(protocol if protocol != requested else ()))

    def _physician(self, tag: int) -> bytes:
        """XCN without an identifier, which items do not have."""
        group = _text(self._attributes, tag).split("=")[0]
        return self._writer.components("", *_name(group)) if group else b""

    def _time(self, at: int) -> str:
        """TS."""
        moment = datetime.fromtimestamp(at // 10**9, self._zone) if at else None
        return moment.astimezone(self._zone).strftime("%Y%m%d%H%M%S%z") if moment else ""


def _text(attributes: Attributes, tag: int) -> str:
    """The first value of an attribute."""
    element = attributes.get(tag)
    return element.value.split("\\")[0].strip() if element and isinstance(element.value, str) else ""


def _name(group: str) -> tuple[str, str, str, str, str]:
    """Family, given, middle, suffix, prefix of a component group of PN."""
    family, given, middle, prefix, suffix = [*(part.strip() for part in group.split("^")), *[""] * 5][:5]
    return family, given, middle, suffix, prefix


def _code(item: Attributes) -> tuple[str, str, str]:
    code = _text(item, _CODE_VALUE) or _text(item, _LONG_CODE_VALUE)
    return code, _text(item, _CODE_MEANING), _text(item, _CODING_SCHEME)


def _hierarchic(item: Attributes) -> tuple[str, str, str]:
    return (
        _text(item, items.LOCAL_NAMESPACE_ENTITY_ID),
        _text(item, items.UNIVERSAL_ENTITY_ID),
        _text(item, _UNIVERSAL_ENTITY_ID_TYPE),
    )
