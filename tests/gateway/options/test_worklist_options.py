"""When the worklist is on, and what it is told."""

from pathlib import Path
from typing import Any

import pytest

from gateway.options.config import Configuration, parse
from gateway.options.orthanc_json import ConfigurationError
from gateway.options.worklist import WorklistFolder

BASE = Path("/etc/orthanc")


def configured(**content: Any) -> Configuration:
    return parse(content, BASE)


@pytest.mark.parametrize(
    ("content", "on"),
    [
        ({}, False),
        ({"Worklists": {"Enable": False, "Database": "/d"}}, False),
        ({"Worklists": {"Enable": True, "Database": "/d"}}, True),
        ({"DicomGateway": {"Worklist": {}}}, True),
    ],
)
def test_the_worklist_is_on_where_something_fills_it(content: dict[str, Any], on: bool) -> None:
    assert (configured(**content).worklist is not None) == configured(**content).needs_database == on


def test_folders_are_those_of_both_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = {"DicomGateway": {"Worklist": {"Folders": ["wl", "/srv/wl"]}}}
    folders = [WorklistFolder(BASE / "wl", True), WorklistFolder(Path("/srv/wl"), True)]
    assert configured(**ours).worklist_folders == folders
    assert configured(**ours, Worklists={"Enable": False, "Database": "/d"}).worklist_folders == folders
    # Orthanc's plugin takes it relative to its working directory.
    orthancs = {"Enable": True, "Database": "db"}
    folders = [WorklistFolder(tmp_path / "db", False)]
    assert configured(Worklists=orthancs).worklist_folders == folders
    folders = [WorklistFolder(Path("/d"), False)]
    assert configured(Worklists=orthancs | {"Directory": "/d"}).worklist_folders == folders
    assert configured(Worklists={"Enable": True, "SaveInOrthancDatabase": True}).worklist_folders == []


def test_expiry_is_said_in_durations() -> None:
    section = configured(DicomGateway={"Worklist": {"Expiry": {"SCHEDULED": "36h", "COMPLETED": None}}}).worklist
    assert section is not None
    seconds = section.expiry.seconds()
    assert (seconds["SCHEDULED"], seconds["COMPLETED"], seconds["READY"]) == (36 * 3600, None, 7 * 24 * 3600)


@pytest.mark.parametrize(
    ("worklist", "text"),
    [
        ({"Expiry": {"SCHEDULED": 7}}, "DicomGateway.Worklist.Expiry.SCHEDULED: expected a valid string"),
        ({"Expiry": {"SCHEDULED": "soon"}}, "DicomGateway.Worklist.Expiry.SCHEDULED: expected a duration"),
        ({"Expiry": {"SCHEDULED": "999w"}}, "DicomGateway.Worklist.Expiry.SCHEDULED: expected ten years at most"),
        (
            {"Expiry": {"Scheduled": "7d"}},
            "DicomGateway.Worklist.Expiry.Scheduled: unknown option, is SCHEDULED meant?",
        ),
        ({"Folders": [""]}, "DicomGateway.Worklist.Folders.0: "),
    ],
)
def test_mistakes_are_named(worklist: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(DicomGateway={"Worklist": worklist})
    assert text in str(caught.value)
