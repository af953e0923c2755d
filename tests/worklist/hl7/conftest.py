"""A listener that answers, for one test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.worklist.hl7.listening import RunningListener, configuration_of

MakeListener = Callable[..., RunningListener]


@pytest.fixture
def make_listener(tmp_path: Path) -> Iterator[MakeListener]:
    """Starts a listener with options of the section Hl7; of the same test they share the state directory."""
    with ExitStack() as stack:

        def make(database: str | None = None, **options: Any) -> RunningListener:
            return stack.enter_context(RunningListener(configuration_of(tmp_path, database, **options)))

        yield make


@pytest.fixture
def listener(make_listener: MakeListener) -> RunningListener:
    """One with the defaults."""
    return make_listener()
