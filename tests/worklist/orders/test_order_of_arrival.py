"""Messages that overtake each other lead to the same end, and the same message twice to what it led to once."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.matching.attributes import Attributes
from tests.worklist.orders.messages import PID, Worklist, message, msh, orm, value
from worklist.items import Status
from worklist.orders.memory import Moment

RENAMED = PID.replace("DOE^JOHN", "MILLER^JIM")


def result_of(worklist: Worklist, messages: Sequence[str]) -> list[Attributes]:
    worklist.clear()
    for text in messages:
        worklist.send(text)
    return worklist.contents()


def differences(these: list[Attributes], those: list[Attributes]) -> list[str]:
    """What is not the same, in short."""
    found = [f"{len(these)} and {len(those)} items"] if len(these) != len(those) else []
    for one, other in zip(these, those, strict=False):
        for tag in sorted({*one, *other}):
            if one.get(tag) != other.get(tag):
                found.append(f"{tag:08X}: {one.get(tag)} and {other.get(tag)}")
    return found


def omi(control: str, hour: int, *steps: str) -> str:
    sent = f"20260301{hour:02}0000"
    return message(
        msh("OMI^O23", f"{control}{hour}", sent),
        PID,
        f"ORC|{control}|P1|F1||||^^^20260302093000",
        "OBR|1|P1|F1|CT^CT SCAN",
        *(f"IPC|A1|R1|1.2.3|{step}|CT|P^PROTOCOL AT {hour}|||CT{hour}" for step in steps),
    )


SEQUENCES = {
    "by ORC-9": [
        orm("NW", ordered="20260301080000", sent="20260301080000"),
        orm("XO", ordered="20260301090000", sent="20260301080000", modality="MR"),
        orm("CA", ordered="20260301100000", sent="20260301080000"),
    ],
    "by MSH-7": [
        orm("NW", ordered="", sent="20260301080000"),
        orm("XO", ordered="", sent="20260301080001", modality="MR"),
        orm("CA", ordered="", sent="20260301080002"),
    ],
    # 10:00 in Paris is before 9:30 in London.
    "in time zones": [
        orm("NW", ordered="20260301100000+0100"),
        orm("XO", ordered="20260301093000+0000", modality="MR"),
        orm("CA", ordered="20260301050000-0500"),
    ],
    "cancelled before it is changed": [
        orm("NW", ordered="20260301080000"),
        orm("CA", ordered="20260301090000"),
        orm("XO", ordered="20260301100000", modality="MR"),
    ],
    "ordered again": [
        orm("NW", ordered="20260301080000"),
        orm("CA", ordered="20260301090000"),
        orm("NW", ordered="20260301100000", modality="MR"),
    ],
    "with another name": [
        orm("NW", ordered="20260301080000"),
        orm("XO", ordered="20260301090000", pid=RENAMED),
        orm("DC", ordered="20260301100000", pid=RENAMED),
    ],
    "with steps": [omi("NW", 8, "S1", "S2"), omi("XO", 9, "S2", "S3"), omi("CA", 10, "S3")],
    "step by step": [omi("NW", 8, "S1"), omi("NW", 9, "S2"), omi("CA", 10, "S1")],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_order_of_arrival_has_the_same_end(worklist: Worklist, name: str) -> None:
    messages = SEQUENCES[name]
    expected = result_of(worklist, messages)
    assert expected
    for permutation in itertools.permutations(messages):
        assert differences(result_of(worklist, permutation), expected) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SEQUENCES)), st.lists(st.integers(0, 2), max_size=6), st.permutations(range(3)))
def test_messages_may_come_several_times_and_in_any_order(
    worklist: Worklist, name: str, repeated: list[int], order: list[int]
) -> None:
    messages = SEQUENCES[name]
    arrivals = [messages[number] for number in (*order, *repeated)]
    assert differences(result_of(worklist, arrivals), result_of(worklist, messages)) == []


def test_an_older_message_is_acknowledged_with_a_note(worklist: Worklist) -> None:
    worklist.send(orm("XO", ordered="20260301090000", modality="MR"))
    result = worklist.send(orm("NW", ordered="20260301080000", modality="CT", pid=PID))
    assert "older" in result.text
    assert value(worklist.item, "Modality") == "MR"


def test_clocks_of_different_senders_are_not_compared(worklist: Worklist) -> None:
    worklist.send(orm("NW", ordered="20260301090000"))
    worklist.send(orm("XO", ordered="20260301080000", modality="MR").replace("|RIS|", "|BROKER|"))
    assert value(worklist.item, "Modality") == "MR"


def test_a_message_of_the_same_second_is_not_older(worklist: Worklist) -> None:
    worklist.send(orm("NW"))
    worklist.send(orm("CA"))
    assert worklist.item.status is Status.CANCELED


@pytest.mark.parametrize(
    ("one", "other", "older"),
    [
        (Moment("A", 1, 9, 1, 9), Moment("A", 2, 1, 2, 1), True),
        (Moment("A", 2, 1, 2, 1), Moment("A", 1, 9, 1, 9), False),
        (Moment("A", None, 1, None, 1), Moment("A", 1, 2, 1, 2), True),
        (Moment("A", None, None, None, None), Moment("A", 1, 2, 1, 2), False),
        (Moment("A", 1, 1, 1, 1), Moment("B", 2, 2, 2, 2), False),
        # A day, and an hour of it: which was first, nobody knows.
        (Moment("A", 0, None, 24, None), Moment("A", 10, None, 10, None), False),
        (Moment("A", 10, None, 10, None), Moment("A", 0, None, 24, None), False),
    ],
)
def test_what_is_older(one: Moment, other: Moment, older: bool) -> None:
    assert one.is_older(other) is older
