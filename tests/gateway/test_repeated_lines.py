"""Lines that strangers can cause: limited, and what is missing is said."""

from typing import Any

from gateway.repeated_lines import INTERVAL_S, LINES_PER_INTERVAL, RepeatedLines


class _Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **keys: Any) -> None:
        self.lines.append((event, keys))


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_first_lines_are_written_and_the_number_of_the_others_when_the_interval_is_over() -> None:
    log, clock = _Log(), _Clock()
    lines = RepeatedLines(log, clock)
    for number in range(LINES_PER_INTERVAL + 7):
        lines.warning("refused", peer=number, option="Limit")
    assert log.lines == [("refused", {"peer": n, "option": "Limit"}) for n in range(LINES_PER_INTERVAL)]
    lines.summarise()
    assert len(log.lines) == LINES_PER_INTERVAL
    clock.now += INTERVAL_S
    lines.summarise()
    said = ("refused: more such lines were not written", {"lines": 7, "seconds": INTERVAL_S, "option": "Limit"})
    assert log.lines[LINES_PER_INTERVAL:] == [said]
    lines.warning("refused", peer=1, option="Limit")
    assert log.lines[-1] == ("refused", {"peer": 1, "option": "Limit"})


def test_events_and_options_are_counted_apart() -> None:
    log = _Log()
    lines = RepeatedLines(log, _Clock())
    for _ in range(LINES_PER_INTERVAL + 1):
        lines.warning("refused", option="A")
    lines.warning("refused", option="B")
    lines.warning("lost")
    assert log.lines[LINES_PER_INTERVAL:] == [("refused", {"option": "B"}), ("lost", {})]


def test_few_lines_are_written_without_a_summary() -> None:
    log, clock = _Log(), _Clock()
    lines = RepeatedLines(log, clock)
    for _ in range(5):
        lines.warning("refused")
        clock.now += INTERVAL_S
        lines.summarise()
    assert log.lines == [("refused", {})] * 5


def test_at_the_end_an_unfinished_interval_is_summarised_too() -> None:
    log = _Log()
    lines = RepeatedLines(log, _Clock())
    for _ in range(LINES_PER_INTERVAL + 2):
        lines.warning("refused")
    lines.summarise(unfinished=True)
    assert log.lines[-1] == ("refused: more such lines were not written", {"lines": 2, "seconds": 0})
