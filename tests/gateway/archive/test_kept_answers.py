"""Answers are kept while nothing changes, for a time and within bounds."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from gateway.archive.kept_answers import MAXIMUM_AGE_S, MAXIMUM_BYTES_OF_ONE, Asked, KeptAnswers
from gateway.matching.keys import Key


class Source:
    """Something that answers, how often it was asked, and whether it has changed."""

    def __init__(self, maximum_bytes: int = 100_000) -> None:
        self.state: int | None = 1
        self.now = 0.0
        self.asked = 0
        self.kept = KeptAnswers(lambda: self.state, maximum_bytes, lambda: self.now)

    def ask(self, text: bytes, count: int) -> Iterator[bytes]:
        self.asked += 1
        for _ in range(count):
            yield text

    def answers(self, name: str, text: bytes = b"a", count: int = 3) -> list[bytes]:
        return list(self.kept.answers(asked(name), lambda: self.ask(text, count)))

    def is_kept(self, name: str) -> bool:
        before = self.asked
        next(self.kept.answers(asked(name), lambda: self.ask(b"", 1)))  # not to its end
        return self.asked == before


def asked(name: str) -> Asked:
    return Asked((Key(0x0010_0020, "LO", name),), "form")


def test_the_same_is_asked_once_while_nothing_changes() -> None:
    source = Source()
    assert source.answers("a", b"1") == source.answers("a", b"2") == [b"1"] * 3
    assert source.asked == 1
    source.state = 2
    assert source.answers("a", b"3") == [b"3"] * 3


def test_what_changes_while_it_is_asked_is_not_kept() -> None:
    source = Source()
    reading = source.kept.answers(asked("a"), lambda: source.ask(b"old", 2))
    next(reading)
    source.state = 2
    assert source.answers("b")
    assert list(reading) == [b"old"]
    assert source.answers("a", b"new") == [b"new"] * 3


def test_what_is_not_known_is_asked_and_not_kept() -> None:
    source = Source()
    source.state = None
    assert source.answers("a", b"1") == [b"1"] * 3
    assert source.answers("a", b"2") == [b"2"] * 3
    source.state = 1
    assert not source.is_kept("a")


def test_what_is_not_read_to_its_end_is_not_kept() -> None:
    source = Source()
    reading = source.kept.answers(asked("a"), lambda: source.ask(b"1", 3))
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert source.answers("a", b"2") == [b"2"] * 3


def test_another_form_is_another_question() -> None:
    source = Source()
    assert source.answers("a", b"1") == [b"1"] * 3
    other = Asked(asked("a").keys, "other form")
    assert list(source.kept.answers(other, lambda: source.ask(b"2", 1))) == [b"2"]


def test_nothing_is_kept_for_long() -> None:
    source = Source()
    source.answers("a", b"1")
    source.now += MAXIMUM_AGE_S - 1
    assert source.answers("a", b"2") == [b"1"] * 3
    source.now += 2
    assert source.answers("a", b"3") == [b"3"] * 3
    assert source.answers("a", b"4") == [b"3"] * 3


def test_what_was_not_asked_for_longest_goes_first() -> None:
    source = Source(maximum_bytes=3 * 3500)
    for name in "abc":
        source.answers(name, bytes(1000))
    assert source.is_kept("a")
    source.answers("d", bytes(1000))
    assert [name for name in "abcd" if source.is_kept(name)] == ["a", "c", "d"]


def test_one_answer_that_is_too_large_does_not_displace_the_others() -> None:
    source = Source(maximum_bytes=2 * MAXIMUM_BYTES_OF_ONE)
    source.answers("small")
    assert len(source.answers("large", bytes(MAXIMUM_BYTES_OF_ONE // 2))) == 3
    assert not source.is_kept("large")
    assert source.is_kept("small")


def test_a_long_question_counts() -> None:
    source = Source(maximum_bytes=10_000)
    source.answers("x" * 20_000, b"")
    assert not source.is_kept("x" * 20_000)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4000), st.booleans(), st.integers(0, 40)), max_size=60)
)
def test_answers_are_those_of_now_and_within_bounds(steps: list[tuple[str, int, bool, int]]) -> None:
    source = Source(maximum_bytes=12_000)
    truth = 0
    for name, size, changes, seconds in steps:
        if changes:
            truth += 1
            source.state = truth + 1
        source.now += seconds
        text = truth.to_bytes(4, "big")
        found = source.answers(name, text + bytes(size), 2)
        assert {answer[:4] for answer in found} == {text}
        assert source.kept._size_bytes == sum(kept.size_bytes for kept in source.kept._kept.values()) <= 12_000


def test_threads_never_see_an_older_answer_than_what_was_when_they_asked() -> None:
    source = Source()
    stale: list[tuple[int, int]] = []
    done = threading.Event()

    def read() -> None:
        chance = random.Random(threading.get_ident())
        while not done.is_set():
            before = source.state or 0
            (answer,) = source.kept.answers(asked(chance.choice("ab")), lambda: iter([str(source.state).encode()]))
            if int(answer) < before:
                stale.append((before, int(answer)))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 20_000):
        source.state = number
    done.set()
    for thread in threads:
        thread.join()
    assert not stale
