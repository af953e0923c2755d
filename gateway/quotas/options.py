"""`DicomGateway.Quotas` as it stands in the configuration."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from gateway.options.durations import read_duration
from gateway.options.section import Section

_UNITS: Final = {"": 1, "B": 1} | {
    unit: base**power
    for power, letter in enumerate("KMGT", start=1)
    for unit, base in ((f"{letter}B", 1000), (f"{letter}iB", 1024))
}
_SIZE: Final = re.compile(r"(\d{1,18}) ?([KMGT]i?B|B|)", re.IGNORECASE)
_UNITS_BY_LOWER_CASE: Final = {unit.lower(): factor for unit, factor in _UNITS.items()}

# SQL's BIGINT, with room for what is added to it.
MAXIMUM_NUMBER: Final = 2**60
MAXIMUM_WINDOW_S: Final = 10 * 365 * 24 * 3600
# An Error Comment (LO, 64 characters) says: quota NAME: MaximumInstancesPerStudy
MAXIMUM_NAME_CHARACTERS: Final = 32


def _read_size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError('expected bytes: a number, or text such as "20 GiB" or "500 MB"')
    return int(match[1]) * _UNITS_BY_LOWER_CASE[match[2].lower()]


Size = Annotated[int, BeforeValidator(_read_size), Field(ge=1, le=MAXIMUM_NUMBER)]
Count = Annotated[int, Field(ge=1, le=MAXIMUM_NUMBER)]
Window = Annotated[int, BeforeValidator(read_duration), Field(ge=1, le=MAXIMUM_WINDOW_S)]
Pattern = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[ -\[\]-~]+$")]
Name = Annotated[str, Field(min_length=1, max_length=MAXIMUM_NAME_CHARACTERS, pattern=r"^[ -\[\]-~]+$")]


class QuotaRule(Section):
    """One entry of `DicomGateway.Quotas.Rules`."""

    name: Name | None = None
    calling_aet: Pattern = "*"
    called_aet: Pattern = "*"
    host: Pattern = "*"
    maximum_instances: Count | None = None
    maximum_bytes: Size | None = None
    window: Window | None = None
    maximum_instances_per_study: Count | None = None
    maximum_bytes_per_instance: Size | None = None

    @model_validator(mode="after")
    def _check_limits(self) -> "QuotaRule":
        limits = (
            self.maximum_instances,
            self.maximum_bytes,
            self.maximum_instances_per_study,
            self.maximum_bytes_per_instance,
        )
        if all(limit is None for limit in limits):
            raise ValueError(
                "expected MaximumInstances, MaximumBytes, MaximumInstancesPerStudy or MaximumBytesPerInstance"
            )
        return self

    @property
    def title(self) -> str:
        """The name, or what the rule selects by."""
        if self.name is not None:
            return self.name
        selection = [pattern for pattern in (self.calling_aet, self.called_aet, self.host) if pattern != "*"]
        return " ".join(selection or ["*"])[:MAXIMUM_NAME_CHARACTERS]


class QuotasSection(Section):
    """`DicomGateway.Quotas`."""

    rules: list[QuotaRule] = Field(default_factory=list)
    minimum_free_space: Size | None = None
    maximum_stored_bytes: Size | None = None
    maximum_queue_length: Count | None = None

    @model_validator(mode="after")
    def _check_names(self) -> "QuotasSection":
        titles = [rule.title for rule in self.rules]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"Rules: two are named {title!r}: give each a Name of its own")
            if title in RESERVED_NAMES:
                raise ValueError(f"Rules: {title!r} is the name of another limit")
        return self

    @property
    def counts(self) -> bool:
        """Whether anything has to be counted (MinimumFreeSpace and MaximumBytesPerInstance need no memory)."""
        return (
            self.maximum_stored_bytes is not None
            or self.maximum_queue_length is not None
            or any(
                limit is not None
                for rule in self.rules
                for limit in (rule.maximum_instances, rule.maximum_bytes, rule.maximum_instances_per_study)
            )
        )


RESERVED_NAMES: Final = frozenset({"MaximumStoredBytes", "MaximumQueueLength", "MinimumFreeSpace"})
