"""Whom a rule is about, and what it limits."""

import fnmatch
import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.options.config import Configuration
from gateway.quotas.options import QuotaRule

NANOSECONDS: Final = 1_000_000_000

QUEUE_LENGTH: Final = "MaximumQueueLength"
STORED_BYTES: Final = "MaximumStoredBytes"


class Source(NamedTuple):
    """Where an instance came from: AE titles as negotiated, the peer's address."""

    calling_ae_title: str
    called_ae_title: str
    host: str


class Limit(NamedTuple):
    """What is used up, in the words of the configuration: for the Error Comment and the log."""

    rule: str
    option: str
    value: int

    @property
    def comment(self) -> str:
        """For the Error Comment: at most 64 characters but for the value."""
        text = f"quota {self.rule}: {self.option} {self.value}"
        return text if len(text) <= 64 else f"quota {self.rule}: {self.option}"


@dataclass(frozen=True)
class Rule:
    """A rule that counts. `measured`: its use is looked up now and then, not summed up from instances."""

    key: str
    title: str
    selection: tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]
    definition: str
    maximum_instances: int | None = None
    maximum_bytes: int | None = None
    maximum_instances_per_study: int | None = None
    window_ns: int | None = None
    measured: bool = False

    def matches(self, source: Source) -> bool:
        """Whether the rule is about instances of `source`."""
        return all(pattern.fullmatch(text) for pattern, text in zip(self.selection, source, strict=True))

    @property
    def has_total(self) -> bool:
        """Whether it limits all of its instances together."""
        return self.maximum_instances is not None or self.maximum_bytes is not None

    def limit(self, *, study: bool, instances: bool) -> Limit:
        """The limit that an instance met."""
        if study:
            return Limit(self.title, "MaximumInstancesPerStudy", self.maximum_instances_per_study or 0)
        if self.measured:
            return Limit(self.title, self.title, self.maximum_instances or self.maximum_bytes or 0)
        if instances:
            return Limit(self.title, "MaximumInstances", self.maximum_instances or 0)
        return Limit(self.title, "MaximumBytes", self.maximum_bytes or 0)


def counting_rules(configuration: Configuration, gateway: str) -> list[Rule]:
    """The rules of this configuration that count; those for the machine belong to the gateway `gateway`."""
    section = configuration.gateway.quotas
    strict = configuration.orthanc.strict_aet_comparison
    rules = [_rule(rule, strict) for rule in section.rules]
    everybody = (_pattern("*", strict=True),) * 3
    if section.maximum_stored_bytes is not None:
        key = f"{STORED_BYTES}@{gateway}"
        limit = section.maximum_stored_bytes
        rules.append(Rule(key, STORED_BYTES, everybody, "measured", maximum_bytes=limit, measured=True))
    if section.maximum_queue_length is not None:
        key = f"{QUEUE_LENGTH}@{gateway}"
        count = section.maximum_queue_length
        rules.append(Rule(key, QUEUE_LENGTH, everybody, "measured", maximum_instances=count, measured=True))
    return [rule for rule in rules if rule.has_total or rule.maximum_instances_per_study is not None]


def selects(rule: QuotaRule, source: Source, *, strict: bool) -> bool:
    """Whether `rule` is about instances of `source`."""
    return all(pattern.fullmatch(text) for pattern, text in zip(_selection(rule, strict), source, strict=True))


def _rule(rule: QuotaRule, strict: bool) -> Rule:
    definition = [rule.calling_aet, rule.called_aet, rule.host, strict, rule.window]
    definition.append(rule.maximum_instances_per_study is not None)
    return Rule(
        key=rule.title,
        title=rule.title,
        selection=_selection(rule, strict),
        definition=json.dumps(definition),
        maximum_instances=rule.maximum_instances,
        maximum_bytes=rule.maximum_bytes,
        maximum_instances_per_study=rule.maximum_instances_per_study,
        window_ns=rule.window * NANOSECONDS if rule.window is not None else None,
    )


def _selection(rule: QuotaRule, strict: bool) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    return (
        _pattern(rule.calling_aet, strict=strict),
        _pattern(rule.called_aet, strict=strict),
        _pattern(rule.host, strict=False),
    )


def _pattern(text: str, *, strict: bool) -> re.Pattern[str]:
    """`*` and `?` as everywhere in Orthanc; without StrictAetComparison case does not matter."""
    expression = fnmatch.translate(text.replace("[", "[[]"))
    return re.compile(expression, 0 if strict else re.IGNORECASE)


def host_of(uri: str) -> str:
    """The address in `dicom://ADDRESS:PORT` or `dicom://[ADDRESS]:PORT`."""
    return uri.removeprefix("dicom://").rpartition(":")[0].strip("[]")
