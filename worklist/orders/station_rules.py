"""`StationRules`: which station does an order that does not say so. The first rule whose conditions all hold."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.matching.attributes import Attributes, Element
from gateway.matching.text import fold, wildcard
from gateway.options.hl7_sources import Source, parse_source
from gateway.options.orders import StationRule, tag_of
from worklist import items
from worklist.items import step_of, values_of
from worklist.orders.reader import Part

SCHEDULED_STATION_NAME: Final = 0x0040_0010
# What rules give.
STATION: Final = frozenset((items.SCHEDULED_STATION_AE_TITLE, SCHEDULED_STATION_NAME, items.MODALITY))


class _Condition(NamedTuple):
    # A field of the message, or an attribute of the item.
    source: Source | None
    tag: int
    tests: tuple[Callable[[str], bool], ...]


class _Rule(NamedTuple):
    conditions: tuple[_Condition, ...]
    result: dict[int, Element]


class StationRules:
    """The rules of a site or of one sending application."""

    def __init__(self, rules: Sequence[StationRule]) -> None:
        self._rules = tuple(map(_compile, rules))

    def find(self, part: Part, attributes: Attributes, *, is_known: bool) -> dict[int, Element] | None:
        """What the first rule that holds gives a step; None leaves it as it is.

        A message about an order that `is_known` may be silent about what a rule asks for: then nothing is decided
        anew, and the order keeps its station.
        """
        for rule in self._rules:
            holds = True
            for condition in rule.conditions:
                values = _values(condition, part, attributes)
                if not values and is_known and condition.source is not None:
                    return None
                folded = [fold(value) for value in values or [""]]
                if not any(test(value) for value in folded for test in condition.tests):
                    holds = False
                    break
            if holds:
                return rule.result
        return {}


def _values(condition: _Condition, part: Part, attributes: Attributes) -> Sequence[str]:
    if condition.source is not None:
        return [value.plain() for value in part.values(condition.source) if not value.is_null]
    return values_of(step_of(attributes), condition.tag) or values_of(attributes, condition.tag)


def _compile(rule: StationRule) -> _Rule:
    result = {
        items.SCHEDULED_STATION_AE_TITLE: rule.ae_title and Element("AE", rule.ae_title),
        SCHEDULED_STATION_NAME: rule.name and Element("SH", rule.name),
        items.MODALITY: rule.modality and Element("CS", rule.modality),
    }
    return _Rule(
        tuple(_condition(name, patterns) for name, patterns in rule.if_.items()),
        {tag: element for tag, element in result.items() if element},
    )


def _condition(name: str, patterns: Sequence[str]) -> _Condition:
    tests = tuple(wildcard(fold(pattern)) for pattern in patterns)
    return _Condition(parse_source(name), 0, tests) if "-" in name else _Condition(None, tag_of(name), tests)
