"""Names of persons: XPN, XCN and CNN to VR PN (HL7 2.5.1, 2.A.88, 2.A.86, 2.A.8; PS3.5 6.2.1)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from worklist.orders.reader import Value
from worklist.orders.texts import MAXIMUM_CHARACTERS, fit


class Shape(NamedTuple):
    """At which component of a data type the parts of a name stand; 0 if it has no such component."""

    family: int
    degree: int
    name_type: int
    representation: int


# The other parts follow the family name: given, middle, suffix, prefix.
XPN: Final = Shape(family=1, degree=6, name_type=7, representation=8)
XCN: Final = Shape(family=2, degree=7, name_type=10, representation=15)
# NDL.1 (OBR-34): an XCN in sub-components, without type and representation.
CNN: Final = Shape(family=2, degree=7, name_type=0, representation=0)

_LEGAL: Final = "L"
# Table 0465, name representation, in the order of PN's component groups.
_GROUPS: Final = ("A", "I", "P")


def person_name(values: Sequence[Value], shape: Shape) -> str:
    """One name of PN, with the component groups that its repetitions have; empty if there is none.

    The legal name before others, else the first; other representations of a name have its type, or none.
    """
    named = [(value, group) for value in values if (group := _group(value, shape))]
    if not named:
        return ""
    types = [_code(value, shape.name_type) for value, _ in named]
    wanted = _LEGAL if _LEGAL in types else types[0]
    groups = dict.fromkeys(_GROUPS, "")
    for (value, group), name_type in zip(named, types, strict=True):
        representation = _code(value, shape.representation)
        representation = representation if representation in groups else "A"
        if name_type in (wanted, "") and not groups[representation]:
            groups[representation] = group
    return "=".join(groups.values()).rstrip("=")


def _code(value: Value, component: int) -> str:
    return value.code(component).upper() if component else ""


def _group(value: Value, shape: Shape) -> str:
    """A component group. HL7 has the suffix before the prefix, DICOM behind it, and the degree in it."""
    family = shape.family
    given, middle, suffix, prefix = (value.text(family + number) for number in range(1, 5))
    degree = value.text(shape.degree)
    suffix = " ".join(filter(None, (suffix, degree)))
    parts = [fit("PN", part) for part in (value.code(family), given, middle, prefix, suffix)]
    group = "^".join(parts).rstrip("^")
    return group[: MAXIMUM_CHARACTERS["PN"]].rstrip("^ ")
