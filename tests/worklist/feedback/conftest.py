"""A RIS that is up, and the sender to it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.database import Database, connect_sqlite, migrate
from tests.support.ris import Ris
from tests.worklist.feedback.sending import Clock, Sender, configuration_of

MakeSender = Callable[..., Sender]


@pytest.fixture
def ris() -> Iterator[Ris]:
    with Ris() as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    made = connect_sqlite(tmp_path / "sender.sqlite")
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def make_sender(tmp_path: Path, sqlite: Database, ris: Ris) -> Iterator[MakeSender]:
    """Makes the sender to the RIS, with options of its receiver; of one test they share database and clock."""
    made: list[Sender] = []
    clock = Clock()

    def make(**options: Any) -> Sender:
        configuration = configuration_of(tmp_path, {"Port": ris.port, "AckTimeout": 0.3, **options})
        sender = Sender(configuration, sqlite, clock)
        made.append(sender)
        return sender

    yield make
    for sender in made:
        sender.delivery.close()
