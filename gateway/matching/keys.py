"""The keys of a query: what is asked for and what it must match."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.matching.attributes import SINGLE_VALUED_VRS, TIME_VRS, name_of


class InvalidQuery(Exception):
    """A query that cannot be answered; the text is for the peer.

    `mismatch`: the identifier does not fit the SOP class (0xA900); otherwise it cannot be processed (0xC000).
    """

    def __init__(self, reason: str, tag: int | None = None, *, mismatch: bool = False) -> None:
        super().__init__(f"{name_of(tag)}: {reason}" if tag is not None else reason)
        self.tag = tag
        self.mismatch = mismatch


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute of an identifier. `value` is Unicode, "" asks for the attribute only.

    `items`: the keys within the item of a sequence. `creator`: of a private attribute.
    """

    tag: int
    vr: str
    value: str = ""
    items: tuple[Key, ...] = ()
    creator: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        """The values without padding; those that are empty are left out."""
        values = [self.value] if self.vr in SINGLE_VALUED_VRS else self.value.split("\\")
        return tuple(stripped for value in values if (stripped := value.strip(" \0")))

    @property
    def is_universal(self) -> bool:
        """Universal matching (PS3.4 C.2.2.2.3): empty, or `*` alone, which matches anything, even nothing.

        A range without ends too, which peers send whose form is left empty.
        """
        if self.vr == "SQ":
            return all(key.is_universal for key in self.items)
        if self.vr in TIME_VRS and set(self.values) == {"-"}:
            return True
        return all(not value.strip("*") for value in self.values)
