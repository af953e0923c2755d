"""Workers tell of studies that arrive: once, again after a minute, and never so that they wait."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.processes import wait_until
from worklist.performed import announcements
from worklist.performed.announcements import Announcer, Arrival, listen

DEADLINE_S = 20
ONE = Arrival("1.2.3", "A1", "P1", "CT1", "ORTHANC")
OTHER = Arrival("1.2.4", "A2", "Ä" * 100, "CT1", "ORTHANC")


def test_a_study_is_told_once_whatever_the_number_of_its_instances(tmp_path: Path) -> None:
    heard: list[Arrival] = []
    listen(tmp_path, heard.append)
    announcer = Announcer(tmp_path)
    for arrival in [ONE] * 100 + [OTHER] + [ONE] * 100:
        announcer.tell(arrival)
    wait_until(lambda: OTHER in heard, DEADLINE_S, "not heard")
    assert heard == [ONE, OTHER]


def test_what_nobody_heard_is_told_with_a_later_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "CONNECT_AGAIN_S", 0.01)
    announcer = Announcer(tmp_path)
    announcer.tell(ONE)
    heard: list[Arrival] = []
    listen(tmp_path, heard.append)

    def told() -> bool:
        announcer.tell(ONE)
        return bool(heard)

    wait_until(told, DEADLINE_S, "not heard")
    assert heard == [ONE]


def test_what_is_too_long_to_be_told_is_not_told_in_part(tmp_path: Path) -> None:
    heard: list[Arrival] = []
    listen(tmp_path, heard.append)
    announcer = Announcer(tmp_path)
    announcer.tell(Arrival("1" * 1024, "\0" * 1024, "\0" * 1024, "\0" * 16, "A" * 16))
    announcer.tell(Arrival("1" * 1024, "\0" * 1024, "\0" * 2048, "\0" * 16, "A" * 16))
    announcer.tell(ONE)
    wait_until(lambda: ONE in heard, DEADLINE_S, "not heard")
    assert len(heard) == 2


def test_a_study_that_still_arrives_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Arrival] = []
    listen(tmp_path, heard.append)
    announcer = Announcer(tmp_path)
    announcer.tell(ONE)
    monkeypatch.setattr(announcements, "TELL_AGAIN_S", 0.0)
    announcer.tell(ONE)
    wait_until(lambda: heard == [ONE, ONE], DEADLINE_S, lambda: f"{heard}")


def test_who_is_not_listened_to_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A listener that hears nothing: its queue and the kernel's fill up, then nothing more is sent.
    monkeypatch.setattr(announcements, "MAXIMUM_WAITING", 2)
    stuck = threading.Event()

    def heard(_arrival: Arrival) -> None:
        stuck.wait(DEADLINE_S)

    listen(tmp_path, heard)
    announcer = Announcer(tmp_path)
    for number in range(2000):
        announcer.tell(Arrival(f"1.2.{number}", "A", "P", "CT1", "ORTHANC"))
    assert len(announcer._told) < 2000
    stuck.set()
