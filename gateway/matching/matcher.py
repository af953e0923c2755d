"""Whether attributes match keys (PS3.4 C.2.2.2). One table says how values of each VR are compared."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from gateway.matching import text, times
from gateway.matching.attributes import SINGLE_VALUED_VRS, TIME_VRS, Attributes, Element
from gateway.matching.keys import InvalidQuery, Key

# PS3.4 C.2.2.2.4: wildcards are for these.
WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
NUMBER_VRS: Final = frozenset(("IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"))
_WITHOUT_WILDCARDS: Final = TIME_VRS | NUMBER_VRS | {"AS"}
_COMPARED_BY_MEANING: Final = TIME_VRS | NUMBER_VRS | {"PN"}
# An FL has 24 significant bits, and decimal text may be a rounded one. Integers are what they are.
_FRACTION_TOLERANCE: Final = 1e-6
_FRACTION_VRS: Final = frozenset(("DS", "FL", "FD"))

_ElementTest = Callable[[Element], bool]


class Matcher:
    """Keys made ready to be compared with many attributes. Raises InvalidQuery for a value that is none."""

    def __init__(self, keys: Iterable[Key], *, case_sensitive_pn: bool = False) -> None:
        self._tests = [(key.tag, _test(key, case_sensitive_pn)) for key in keys if not key.is_universal]

    def __bool__(self) -> bool:
        return bool(self._tests)

    def matches(self, attributes: Attributes) -> bool:
        """Whether all keys match. An attribute that is missing or empty matches universal keys only."""
        for tag, test in self._tests:
            element = attributes.get(tag)
            if element is None or not test(element):
                return False
        return True


def _test(key: Key, case_sensitive_pn: bool) -> _ElementTest:
    if key.vr == "SQ":
        return partial(_any_item, Matcher(key.items, case_sensitive_pn=case_sensitive_pn))
    if key.vr == "UI":
        _refuse_wildcards(key)
        return partial(_any_value, frozenset(key.values).__contains__, key.vr)
    values = key.values
    if key.vr in _WITHOUT_WILDCARDS:
        _refuse_wildcards(key)
    if not all(value.strip("*") for value in values):
        return lambda element: True  # `*` among several
    if key.vr not in _COMPARED_BY_MEANING:
        exact = frozenset(value for value in values if key.vr not in WILDCARD_VRS or not _has_wildcard(value))
        patterns = [text.wildcard(value) for value in values if value not in exact]
        return partial(_any_value, lambda stored: stored in exact or any(test(stored) for test in patterns), key.vr)
    tests = [_value_test(key, value, case_sensitive_pn) for value in values]
    return partial(_any_value, lambda stored: any(test(stored) for test in tests), key.vr)


def _any_item(matcher: Matcher, element: Element) -> bool:
    """PS3.4 C.2.2.2.6: one item that matches all keys is enough."""
    return not isinstance(element.value, str) and any(matcher.matches(item) for item in element.value)


def _any_value(test: text.Test, vr: str, element: Element) -> bool:
    """Of several values of an attribute one that matches is enough (PS3.4 C.2.2.2.1)."""
    if not isinstance(element.value, str):
        return False
    values = [element.value] if vr in SINGLE_VALUED_VRS else element.value.split("\\")
    return any(test(stripped) for value in values if (stripped := value.strip(" \0")))


def _value_test(key: Key, value: str, case_sensitive_pn: bool) -> text.Test:
    if key.vr == "PN":
        return text.name_test(value, case_sensitive=case_sensitive_pn)
    if key.vr in TIME_VRS:
        return _time_test(key, value)
    return _number_test(key.vr, value)


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _refuse_wildcards(key: Key) -> None:
    if any(_has_wildcard(value) and value.strip("*") for value in key.values):
        raise InvalidQuery(f"no wildcards in a value of VR {key.vr}", key.tag)


def _time_test(key: Key, value: str) -> text.Test:
    wanted = times.parse_range(key.vr, value)
    if wanted is None:
        raise InvalidQuery(f"neither a value nor a range of VR {key.vr}", key.tag)

    def test(stored: str) -> bool:
        period = times.period(key.vr, stored)
        return period is not None and wanted.holds(period)

    return test


def _number_test(vr: str, value: str) -> text.Test:
    number = _number(value)
    tolerance = _FRACTION_TOLERANCE if vr in _FRACTION_VRS else 0.0
    if number is None:
        return value.__eq__

    def test(stored: str) -> bool:
        other = _number(stored)
        return other is not None and math.isclose(number, other, rel_tol=tolerance)

    return test


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
