"""From values of HL7 to one attribute of DICOM: the conversions that the field map names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Final, NamedTuple

from gateway.matching.attributes import Element
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.orders import timestamps
from worklist.orders.names import CNN, XCN, XPN, Shape, person_name
from worklist.orders.reader import Value
from worklist.orders.texts import decimal_number, fit, is_uid, short
from worklist.orders.timestamps import Timestamp


@dataclass(frozen=True, slots=True)
class Context:
    """What a conversion needs besides the values."""

    # DicomGateway.Hl7.AssigningAuthority
    assigning_authority: str = ""
    # DicomGateway.Hl7.TimeZone; None leaves times as they came.
    zone: tzinfo | None = None
    # Of MSH-7: what timestamps without a time zone of their own are in (HL7 2.5.1, 2.15.9.7).
    offset: timedelta | None = None


Function = Callable[[Sequence[Value], Context], Element | None]


class Conversion(NamedTuple):
    """A function of values that are neither empty nor null, and how the documents call it."""

    name: str
    apply: Function


def of_vr(vr: str, *, several: bool) -> Conversion:
    """The conversion of an attribute for which a site has named fields, by its VR."""
    special = {"PN": XPN_NAME, "DA": DATE, "TM": TIME, "UI": STUDY_UID, "SQ": CODE}
    return special.get(vr) or (number(vr) if vr in _NUMBERS else text(vr, several=several))


def text(vr: str, component: int = 0, *, several: bool = False) -> Conversion:
    """Text of a VR: of one component, or of the whole place; one value, or all repetitions."""

    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        texts = (fit(vr, value.text(component) if component else value.plain()) for value in values)
        found = [one for one in texts if one]
        if not found:
            return None
        if vr in ("ST", "LT", "UT"):
            return Element(vr, fit(vr, "\r\n".join(found)))
        return Element(vr, "\\".join(dict.fromkeys(found)) if several else found[0])

    return Conversion(f"{vr}, all" if several else vr, apply)


def _identifier(values: Sequence[Value], _context: Context) -> Element | None:
    found = next((text for value in values if (text := fit("UC", value.plain()))), "")
    return Element("SH", short(found)) if found else None


# What tells orders apart must not become the same by being cut.
IDENTIFIER: Final = Conversion("SH, see [what is derived](#what-is-derived)", _identifier)

# Table 0074, which OBR-24 is of where IHE does not hold, and DICOM's terms (PS3.3 C.7.3.1.1.1).
_MODALITIES: Final = {
    **dict.fromkeys(("CAT",), "CT"),
    **dict.fromkeys(("NMR", "MRI", "MRT"), "MR"),
    **dict.fromkeys(("NMS", "NUC"), "NM"),
    **dict.fromkeys(("RUS", "VUS", "OUS", "CUS"), "US"),
    # Sections of a department: more than one modality, so that StationRules must say which.
    **dict.fromkeys(("RAD", "RX", "IMG"), ""),
}


def _modality(values: Sequence[Value], _context: Context) -> Element | None:
    for value in values:
        code = fit("CS", value.plain())
        if found := _MODALITIES.get(code, code):
            return Element("CS", found)
    return None


MODALITY: Final = Conversion("CS; table 0074 as DICOM's terms, RAD, RX and IMG say nothing", _modality)


def joined(vr: str, components: Sequence[int], separator: str) -> Conversion:
    """Components in one text, those that say something."""

    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        value = values[0]
        parts = (fit(vr, value.code(component)) for component in components)
        found = fit(vr, separator.join(part for part in parts if part))
        return Element(vr, found) if found else None

    numbers = ", ".join(map(str, components))
    return Conversion(f"{vr} of components {numbers}", apply)


def _name(shape: Shape, name: str) -> Conversion:
    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        found = person_name(values, shape)
        return Element("PN", found) if found else None

    return Conversion(name, apply)


def _names(values: Sequence[Value], _context: Context) -> Element | None:
    found = [name for value in values if (name := person_name([value], XCN))]
    return Element("PN", "\\".join(dict.fromkeys(found))) if found else None


def _performer(values: Sequence[Value], _context: Context) -> Element | None:
    """OBR-34 is NDL since HL7 2.3, whose first component is the name in sub-components; many send XCN all the same."""
    is_ndl = len(values[0].parts[0]) > 1
    found = person_name([values[0].part(1)], CNN) if is_ndl else person_name(values, XCN)
    return Element("PN", found) if found else None


XPN_NAME: Final = _name(XPN, "name, XPN")
XCN_NAME: Final = _name(XCN, "name, XCN")
PERFORMER: Final = Conversion("name, NDL.1 or XCN", _performer)
XCN_NAMES: Final = Conversion("names, XCN", _names)


def _code(values: Sequence[Value], _context: Context) -> Element | None:
    """CE, CWE to a Code Sequence (PS3.3 8.8): the first triple that has a code."""
    value = values[0]
    for first in (1, 4):
        identifier = fit("UC", value.text(first))
        if not identifier:
            continue
        # Long Code Value (0008,0119) is for what SH cannot hold.
        number = Element("SH", identifier) if len(identifier) <= 16 else None
        item = {0x0008_0100: number} if number else {0x0008_0119: Element("UC", identifier)}
        # HL7's name for what is coded locally, table 0396.
        item[0x0008_0102] = Element("SH", fit("SH", value.text(first + 2)) or "L")
        item[0x0008_0104] = Element("LO", fit("LO", value.text(first + 1) or identifier))
        return Element("SQ", (item,))
    return None


CODE: Final = Conversion("code, CE", _code)


def _hierarchic(values: Sequence[Value], _context: Context) -> Element | None:
    """EI.2 to EI.4, or an HD in sub-components: who issued an identifier (PS3.3 10.14, HL7v2 Hierarchic Designator)."""
    value = values[0]
    item = {
        0x0040_0031: Element("UT", fit("UT", value.text(1))),
        0x0040_0032: Element("UT", fit("UT", value.text(2))),
        0x0040_0033: Element("CS", fit("CS", value.text(3))),
    }
    if not item[0x0040_0032].value or not item[0x0040_0033].value:
        del item[0x0040_0032], item[0x0040_0033]
    item = {tag: element for tag, element in item.items() if element.value}
    return Element("SQ", (item,)) if item else None


ISSUER: Final = Conversion("issuer, HD", _hierarchic)


def _study_uid(values: Sequence[Value], _context: Context) -> Element | None:
    value = values[0]
    uid = value.plain().strip()
    if not uid:
        return None
    if not is_uid(uid):
        raise MessageError(ErrorCode.DATA_TYPE_ERROR, value.location, "not a UID")
    return Element("UI", uid)


STUDY_UID: Final = Conversion("UID", _study_uid)


def _read_time(value: Value, context: Context) -> Timestamp | None:
    stamp = timestamps.parse(value.plain())
    if stamp is None:
        return None
    stamp = stamp.with_offset(context.offset)
    return stamp.in_zone(context.zone) if context.zone is not None else stamp


def _timestamp(values: Sequence[Value], context: Context) -> Timestamp:
    stamp = _read_time(values[0], context)
    if stamp is None:
        raise MessageError(ErrorCode.DATA_TYPE_ERROR, values[0].location, "not a timestamp")
    return stamp


def _start_date(values: Sequence[Value], context: Context) -> Element | None:
    date = _timestamp(values, context).date
    if not date:
        raise MessageError(ErrorCode.DATA_TYPE_ERROR, values[0].location, "a timestamp without a day")
    return Element("DA", date)


def _start_time(values: Sequence[Value], context: Context) -> Element | None:
    return Element("TM", _timestamp(values, context).time or "000000")


def _start_offset(values: Sequence[Value], context: Context) -> Element | None:
    stamp = _timestamp(values, context)
    return Element("SH", stamp.offset_text) if stamp.has_time and stamp.offset is not None else None


START_DATE: Final = Conversion("date; AE if it is none", _start_date)
START_TIME: Final = Conversion("time; midnight if there is only a day", _start_time)
START_OFFSET: Final = Conversion("time zone", _start_offset)


def _date(values: Sequence[Value], context: Context) -> Element | None:
    stamp = _read_time(values[0], context)
    return Element("DA", stamp.date) if stamp and stamp.date else None


def _time(values: Sequence[Value], context: Context) -> Element | None:
    stamp = _read_time(values[0], context)
    return Element("TM", stamp.time) if stamp and stamp.time else None


def _birth_date(values: Sequence[Value], _context: Context) -> Element | None:
    """Nobody's day of birth depends on where somebody else's clock is."""
    stamp = timestamps.parse(values[0].plain())
    return Element("DA", stamp.date) if stamp and stamp.date else None


DATE: Final = Conversion("date", _date)
TIME: Final = Conversion("time", _time)
BIRTH_DATE: Final = Conversion("date, as it stands", _birth_date)


def number(vr: str) -> Conversion:
    """NM to a VR of numbers, of whole ones to IS and US; what does not fit is left out."""
    minimum, maximum = _NUMBERS[vr]

    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        found = decimal_number(values[0].plain())
        if found is None or not minimum <= found <= maximum:
            return None
        return Element(vr, f"{found:.9g}" if vr == "DS" else str(int(found)))

    return Conversion(vr, apply)


_NUMBERS: Final = {"DS": (-1e15, 1e15), "IS": (-(2**31), 2**31 - 1), "US": (0, 65535)}


def table(name: str, codes: dict[str, str], vr: str, otherwise: str | None = None) -> Conversion:
    """The first code of HL7 that is in a table; if none is `otherwise`, None leaves the attribute alone."""

    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        found = (codes.get(value.code().strip().upper()) for value in values)
        meant = next((one for one in found if one is not None), otherwise)
        return None if meant is None else Element(vr, meant)

    return Conversion(name, apply)


def measured(name: str, units: dict[str, float], default: str, minimum: float, maximum: float) -> Conversion:
    """OBX-5 in the unit of OBX-6, or of the text itself; nothing if the result is not within the limits."""

    def apply(values: Sequence[Value], _context: Context) -> Element | None:
        for value in reversed(values):
            number = decimal_number(value.plain())
            unit = unit_of(value)
            if number is None or (unit or default) not in units:
                continue
            result = number * units[unit or default]
            if minimum <= result <= maximum:
                return Element("DS", f"{result:.6g}")
        return None

    return Conversion(name, apply)


def unit_of(value: Value) -> str:
    """OBX-6, else what follows the number in OBX-5."""
    units = value.segment.value(6)
    unit = units.text(1) or units.text(2) or value.plain().strip().lstrip("+-.,0123456789")
    return unit.strip().strip("[]").removesuffix("_av").removesuffix("_us").removesuffix("_i").casefold()


def _patient_id(values: Sequence[Value], context: Context) -> Element | None:
    identifier = fit("LO", primary(values, context).text(1))
    return Element("LO", identifier) if identifier else None


def _patient_issuer(values: Sequence[Value], context: Context) -> Element | None:
    authority = primary(values, context).part(4)
    issuer = fit("LO", authority.text(1) or authority.text(2) or context.assigning_authority)
    return Element("LO", issuer) if issuer else None


def _patient_issuer_qualifiers(values: Sequence[Value], context: Context) -> Element | None:
    item = _qualifiers(primary(values, context))
    return Element("SQ", (item,)) if item else None


def _other_patient_ids(values: Sequence[Value], context: Context) -> Element | None:
    chosen = primary(values, context)
    items = []
    for value in values:
        identifier = fit("LO", value.text(1))
        if value is chosen or not identifier:
            continue
        authority = value.part(4)
        item = {0x0010_0020: Element("LO", identifier), 0x0010_0022: Element("CS", "TEXT")}
        issuer = fit("LO", authority.text(1) or authority.text(2))
        if issuer:
            item[0x0010_0021] = Element("LO", issuer)
        qualifiers = _qualifiers(value)
        if qualifiers:
            item[0x0010_0024] = Element("SQ", (qualifiers,))
        items.append(item)
    return Element("SQ", tuple(items)) if items else None


def primary(values: Sequence[Value], context: Context) -> Value:
    """The repetition of PID-3 that is Patient ID: that of the configured assigning authority, else the first."""
    wanted = context.assigning_authority
    identified = [value for value in values if value.text(1)] or values
    ours = (value for value in identified if wanted and wanted in (value.part(4).text(1), value.part(4).text(2)))
    return next(ours, identified[0])


def _qualifiers(value: Value) -> dict[int, Element]:
    """Issuer of Patient ID Qualifiers Sequence (PS3.3 table 10-18): CX.4.2, CX.4.3 and CX.5."""
    authority = value.part(4)
    universal, kind = fit("UT", authority.text(2)), fit("CS", authority.text(3))
    item = {0x0040_0032: Element("UT", universal), 0x0040_0033: Element("CS", kind)} if universal and kind else {}
    type_code = fit("CS", value.code(5))
    return {**item, 0x0040_0035: Element("CS", type_code)} if type_code else item


PATIENT_ID: Final = Conversion("CX.1, see AssigningAuthority", _patient_id)
PATIENT_ISSUER: Final = Conversion("CX.4.1, else CX.4.2", _patient_issuer)
PATIENT_ISSUER_QUALIFIERS: Final = Conversion("CX.4.2, CX.4.3, CX.5", _patient_issuer_qualifiers)
OTHER_PATIENT_IDS: Final = Conversion("CX, all but Patient ID", _other_patient_ids)
