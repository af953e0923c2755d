"""What docs/dicomweb.md says of STOW-RS answers is what the code does."""

from __future__ import annotations

import re
from typing import Final

from gateway.forwarding.stow_verdicts import FAILURE_REASON_RANGES, FAILURE_REASONS, STATUSES, SUCCESSES, judge_failure
from tests.test_docs import ROOT, rows, section

STORES: Final = rows(section(ROOT / "docs" / "dicomweb.md", "## Stores"))


def test_failure_reasons_are_those_of_the_code() -> None:
    described = {tuple(row) for row in STORES if row[0].startswith("0x")}
    expected = {(f"0x{code:04X}", name, verdict.name) for code, (name, verdict) in FAILURE_REASONS.items()}
    expected |= {
        (f"0x{first:04X} to 0x{last:04X}", name, verdict.name)
        for (first, last), (name, verdict) in FAILURE_REASON_RANGES.items()
    }
    assert described == expected
    (other,) = (row for row in STORES if row[0] == "any other, or none")
    assert judge_failure(None).verdict.name == judge_failure(0x9999).verdict.name == other[2]


def test_statuses_are_those_of_the_code() -> None:
    table = {row[0]: row[1] for row in STORES if re.match(r"\d{3}|any other, or no answer", row[0])}
    (successes,) = (key for key in table if "," in key and key[0].isdigit())
    assert {int(status) for status in successes.split(", ")} == SUCCESSES
    assert table.pop(successes).startswith("DELIVERED")
    assert table.pop("any other, or no answer").startswith("HOLD")
    assert {int(status): verdict for status, verdict in table.items()} == {
        status: verdict.name for status, verdict in STATUSES.items()
    }
