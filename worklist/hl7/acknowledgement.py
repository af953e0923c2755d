"""Acknowledgements (HL7 2.5.1, 2.9 and 2.13): who gets which, and how they are written."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worklist.hl7.errors import MEANINGS, MessageError, Refusal
from worklist.hl7.framing import enclose
from worklist.hl7.header import Header

# Table 0008, by what came of the message: the acknowledgement of the application, and that of the commitment.
ACCEPTED: Final = "AA"
ERROR: Final = "AE"
REJECTED: Final = "AR"
_COMMIT_CODES: Final = {ACCEPTED: "CA", ERROR: "CE", REJECTED: "CR"}

# What is copied from the message is bounded: MSH-10 has 199 characters in HL7 2.7 and 20 before, HD has 227.
_MAXIMUM_COPIED_CHARACTERS: Final = 256
_MAXIMUM_MSA_3_CHARACTERS: Final = 80
_MAXIMUM_ERR_8_CHARACTERS: Final = 250
_MAXIMUM_LOCATION_PARTS: Final = 6

# HL7 2.5 gave ERR its fields from 2 on, and took MSA-6 away.
_FIRST_WITH_ERR_2: Final = (2, 5)
_VERSION: Final = re.compile(r"(\d)\.(\d)")
_CONTROL_CHARACTERS: Final = re.compile("[\0-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a message: AA, AE or AR."""

    code: str
    text: str = ""
    refusal: Refusal | None = None

    @classmethod
    def refused(cls, refusal: Refusal) -> "Outcome":
        """AE for a message that is wrong, AR for one that is not for us."""
        code = ERROR if isinstance(refusal, MessageError) else REJECTED
        return cls(code, refusal.text, refusal)


def acknowledge(header: Header | None, outcome: Outcome, now: datetime, codec: str) -> bytes:
    """The frames that answer a message, one after the other; empty if the sender wants none.

    Without a header (the message has none) the acknowledgement has no addressee. `now` has a time zone. What `codec`
    cannot hold becomes a question mark.
    """
    header = header or Header()
    frames = b""
    for code in _codes(header, outcome):
        frames += enclose(_Writer(header).message(code, outcome, now).encode(codec, "replace"))
    return frames


def _codes(header: Header, outcome: Outcome) -> list[str]:
    """Which acknowledgements are due (HL7 2.5.1, 2.9.2 and 2.9.3; table 0155)."""
    accept, application = header.field(15).strip().upper(), header.field(16).strip().upper()
    if not accept and not application:
        return [outcome.code]
    is_told = _is_due(application, outcome)
    # The message is in the log for good when this is sent. But a sender that hears nothing from the application must
    # not take that for success.
    commit = _COMMIT_CODES[ACCEPTED if is_told else outcome.code]
    is_committed = _is_due(accept, Outcome(ACCEPTED) if is_told else outcome)
    return [commit] * is_committed + [outcome.code] * is_told


def _is_due(condition: str, outcome: Outcome) -> bool:
    """Table 0155. Who asks for something that is not in it gets an answer."""
    is_accepted = outcome.code == ACCEPTED
    return {"": False, "NE": False, "ER": not is_accepted, "SU": is_accepted}.get(condition, True)


class _Writer:
    """Writes with the delimiters of the message that is answered."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._field = header.field_separator
        self._component, repetition, escape, self._subcomponent = tuple(header.encoding_characters)
        self._escapes = str.maketrans(
            {
                escape: f"{escape}E{escape}",
                self._field: f"{escape}F{escape}",
                self._component: f"{escape}S{escape}",
                repetition: f"{escape}R{escape}",
                self._subcomponent: f"{escape}T{escape}",
            }
        )

    def message(self, code: str, outcome: Outcome, now: datetime) -> str:
        """One acknowledgement."""
        header = self._header
        event = self._escape(header.trigger_event, 20)
        control_id = self._copy(10)
        segments = [
            [
                f"MSH{self._field}{header.encoding_characters}",
                *(self._copy(number) for number in (5, 6, 3, 4)),
                now.strftime("%Y%m%d%H%M%S%z"),
                "",
                self._component.join(["ACK", event, "ACK"]) if event else "ACK",
                control_id or uuid.uuid4().hex[:20],
                self._copy(11) or "P",
                self._copy(12) or "2.5",
                *[""] * 5,
                self._copy(18),
            ],
            ["MSA", code, control_id, self._escape(outcome.text, _MAXIMUM_MSA_3_CHARACTERS)],
        ]
        if outcome.refusal is not None and code != _COMMIT_CODES[ACCEPTED]:
            segments += self._error(outcome.refusal, segments[1])
        return "".join(self._field.join(fields).rstrip(self._field) + "\r" for fields in segments)

    def _error(self, refusal: Refusal, msa: list[str]) -> list[list[str]]:
        code = [str(refusal.code.value), MEANINGS[refusal.code], "HL70357"]
        parts = refusal.location.split("^")[:_MAXIMUM_LOCATION_PARTS] if refusal.location else []
        location = [self._escape(part, 20) for part in parts]
        if _version(self._header.version) >= _FIRST_WITH_ERR_2:
            text = self._escape(refusal.text, _MAXIMUM_ERR_8_CHARACTERS)
            return [["ERR", "", self._component.join(location), self._component.join(code), "E", "", "", "", text]]
        msa += ["", "", self._component.join(code)]
        # ELD: segment, sequence, field, and the error as subcomponents.
        eld = [*location[:3], *[""] * (3 - len(location)), self._subcomponent.join(code)]
        return [["ERR", self._component.join(eld)]]

    def _copy(self, number: int) -> str:
        """MSH-`number` as it came: its delimiters are ours too."""
        return _CONTROL_CHARACTERS.sub("", self._header.field(number)).strip()[:_MAXIMUM_COPIED_CHARACTERS]

    def _escape(self, text: str, maximum_characters: int) -> str:
        return _CONTROL_CHARACTERS.sub(" ", text)[:maximum_characters].translate(self._escapes)


def _version(text: str) -> tuple[int, int]:
    """Who does not say which version is taken for a sender of today."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else _FIRST_WITH_ERR_2
