"""The log of the code under test."""

from collections.abc import Callable

import pytest

from gateway import log as gateway_log


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """The lines that were logged so far and hold a text."""
    gateway_log.configure("INFO", "Text", "test")
    lines: list[str] = []

    def read(text: str) -> list[str]:
        lines.extend(capfd.readouterr().err.splitlines())
        return [line for line in lines if text in line]

    return read
