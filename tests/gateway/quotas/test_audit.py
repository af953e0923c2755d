"""What the auditor does while a gateway runs, and not only at its start."""

from pathlib import Path
from typing import Final

import pytest

from gateway.quotas import audit
from gateway.quotas.accounts import Holder
from gateway.quotas.audit import Auditor
from gateway.spool import Spool
from tests.gateway.quotas.conftest import MakeBooks
from tests.support.processes import wait_until

TIMEOUT_S: Final = 30
ONE: Final = Holder("ours", "1-x")


def test_rows_that_nothing_counts_are_pruned_again_and_again(
    make_books: MakeBooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PRUNE_INTERVAL_S", 0.05)
    books = make_books({"Name": "CT", "CallingAet": "CT", "MaximumInstances": 9})
    spool = Spool(tmp_path / "state")
    spool.prepare()
    auditor = Auditor(books.ledger, books.holdings, spool, None)
    auditor.start(lambda: None)
    assert books.accept(ONE, "held")
    for number in range(3):
        assert books.accept(ONE, f"{number}")
        assert auditor.release([f"{number}"]) == 1
        wait_until(lambda name=f"{number}": not books.ledger.states([name]), TIMEOUT_S, "the row stays")  # type: ignore[misc]
    assert books.ledger.states(["held"]) == {"held": True}
