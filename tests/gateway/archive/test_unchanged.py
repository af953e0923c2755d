"""Files tell of every change, or say that they cannot tell yet."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gateway.archive.unchanged import SETTLING_NS, SETTLING_OF_SECONDS_NS, Files, database_files
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until

CHANGES = 200
TIMEOUT_S = 20


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "index", tmp_path / "index-wal"]
    for path in paths:
        path.write_bytes(b"0")
    return paths


def set_age(path: Path, age_ns: int, *, fraction: int = 0) -> None:
    modified = time.time_ns() - age_ns
    if not fraction:
        modified = modified // 1_000_000_000 * 1_000_000_000
    os.utime(path, ns=(modified, modified))


def test_nothing_is_said_of_files_that_were_just_written(paths: list[Path]) -> None:
    files = Files(paths)
    assert files.state() is None
    wait_until(lambda: files.state() is not None, TIMEOUT_S, "they never settle")
    before = files.state()
    assert files.state() == before
    paths[1].write_bytes(b"1")
    assert files.state() is None


def test_each_change_makes_it_another_state(paths: list[Path]) -> None:
    """Of the same size, as soon as possible after the state was told: the file system's clock must have gone on."""
    files = Files(paths)
    seen = []
    for number in range(10):
        wait_until(lambda: files.state() is not None, TIMEOUT_S, "they never settle")
        seen.append(files.state())
        with paths[1].open("r+b") as file:
            file.write(bytes([number]))
        assert files.state() != seen[-1]
    assert len(set(seen)) == len(seen)


def test_a_file_that_is_replaced_by_an_older_one(paths: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"0")
    for path in (*paths, other):
        set_age(path, 10 * SETTLING_OF_SECONDS_NS)
    files = Files(paths)
    before = files.state()
    assert before is not None
    other.rename(paths[0])
    assert files.state() is not None
    assert files.state() != before


def test_a_clock_of_whole_seconds_is_waited_for_longer(paths: list[Path]) -> None:
    files = Files(paths)
    for path in paths:
        set_age(path, SETTLING_NS + 50_000_000, fraction=1)
    assert files.state() is not None
    set_age(paths[0], SETTLING_NS + 50_000_000)
    assert files.state() is None
    set_age(paths[0], SETTLING_OF_SECONDS_NS + 50_000_000)
    assert files.state() is not None


def test_nothing_is_said_of_the_future(paths: list[Path]) -> None:
    """The clock was set back."""
    set_age(paths[0], 10 * SETTLING_OF_SECONDS_NS)
    set_age(paths[1], -10 * SETTLING_OF_SECONDS_NS, fraction=1)
    assert Files(paths).state() is None


def test_nothing_is_said_of_a_file_that_is_gone(paths: list[Path]) -> None:
    for path in paths:
        set_age(path, 10 * SETTLING_OF_SECONDS_NS)
    assert Files(paths).state() is not None
    paths[1].unlink()
    assert Files(paths).state() is None


@pytest.mark.integration
def test_orthancs_database_is_what_it_has_open(tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path, verbose=False)
    try:
        orthanc.start()
        folder = orthanc.directory / "orthanc"
        assert database_files(orthanc.pid) == (folder / "index", folder / "index-wal")
    finally:
        orthanc.close()


def test_a_process_without_a_database_has_none() -> None:
    assert database_files(os.getpid()) == ()
    assert database_files(2**22 + 1) == ()
