"""Folders of files and what of them is in the store."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.database import Database, connect_postgresql, connect_sqlite, migrate
from gateway.dicom.character_sets import UTF_8
from gateway.options.worklist import WorklistFolder
from tests.support.postgresql import PostgreSql
from tests.support.processes import wait_until
from tests.support.worklists import SOMEBODY, dump, items_of, write_file
from worklist import store
from worklist.folders import FolderImport
from worklist.items import Status
from worklist.watching import Watcher

DEADLINE_S = 20


class Watched:
    """A folder, and who reads it."""

    def __init__(self, database: Database, path: Path, gateway: str = "ours", partitions: bool = True) -> None:
        self.database = database
        self.path = path
        self.gateway = gateway
        self.partitions = partitions
        self.importing = self._open()

    def _open(self) -> FolderImport:
        folder = WorklistFolder(self.path, self.partitions)
        importing = FolderImport(self.database, self.gateway, [folder], UTF_8)
        importing.open()
        return importing

    def restart(self) -> None:
        self.importing = self._open()

    def settle(self) -> None:
        """Looks until there is nothing left to be read."""
        wait_until(lambda: self.importing.look() and not self.importing.fresh(), DEADLINE_S, "files are never read")

    def origins(self) -> list[str]:
        self.settle()
        return sorted(Path(item.origin.removeprefix("file ")).name for item in items_of(self.database))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """SQLite is enough here: what it has to do is tested elsewhere."""
    made = connect_sqlite(tmp_path / "gateway.sqlite")
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "worklists"
    made.mkdir()
    return made


@pytest.fixture
def watched(database: Database, folder: Path) -> Watched:
    return Watched(database, folder)


def test_a_file_is_an_item_as_long_as_it_is_there(watched: Watched) -> None:
    file = write_file(watched.path / "a.wl", dump(name="Müller^Eva"))
    watched.settle()
    (item,) = items_of(watched.database)
    assert (item.patient_name, item.origin, item.status) == ("Müller^Eva", f"file {file}", Status.SCHEDULED)
    file.unlink()
    watched.settle()
    assert items_of(watched.database) == []


def test_of_a_changed_file_the_item_keeps_status_and_history(watched: Watched) -> None:
    write_file(watched.path / "a.wl")
    watched.settle()
    (item,) = items_of(watched.database)
    with watched.database.write(lock=store.LOCK) as connection:
        store.set_status(connection, item, Status.STARTED, SOMEBODY)
    write_file(watched.path / "a.wl", dump(name="DOE^JOAN"))
    watched.settle()
    (changed,) = items_of(watched.database)
    assert (changed.id, changed.status, changed.patient_name) == (item.id, Status.STARTED, "DOE^JOAN")
    with watched.database.read() as connection:
        assert [event.what for event in store.history(connection, item.id)] == [
            "added as SCHEDULED",
            "SCHEDULED to STARTED",
            "changed (0010,0010)",
        ]


def test_another_step_under_the_same_name_is_another_item(watched: Watched) -> None:
    write_file(watched.path / "a.wl")
    watched.settle()
    (item,) = items_of(watched.database)
    write_file(watched.path / "a.wl", dump(step="S2"))
    watched.settle()
    (other,) = items_of(watched.database)
    assert other.id != item.id


def test_a_file_may_say_the_status(watched: Watched) -> None:
    write_file(watched.path / "a.wl", dump(more="(0040,0020) CS [ARRIVED]\n"))
    watched.settle()
    write_file(watched.path / "a.wl", dump(more="(0040,0020) CS [COMPLETED]\n"))
    (before,) = items_of(watched.database)
    watched.settle()
    (after,) = items_of(watched.database)
    assert (before.id, before.status, after.status) == (after.id, Status.ARRIVED, Status.COMPLETED)


def test_a_subfolder_is_for_the_called_ae_title_of_its_name(watched: Watched) -> None:
    for name in ("WEST", ".hidden", "a name that is much too long", "deep"):
        (watched.path / name).mkdir()
        write_file(watched.path / name / f"{name}.wl")
    (watched.path / "deep" / "deeper").mkdir()
    write_file(watched.path / "deep" / "deeper" / "b.wl")
    write_file(watched.path / "all.wl")
    watched.settle()
    partitions = {Path(item.origin).name: item.keys.partition for item in items_of(watched.database)}
    assert partitions == {"WEST.wl": "WEST", "deep.wl": "deep", "all.wl": ""}
    (watched.path / "WEST").rename(watched.path / "EAST")
    watched.settle()
    assert {item.keys.partition for item in items_of(watched.database)} == {"EAST", "deep", ""}


def test_orthancs_folder_has_no_partitions(database: Database, folder: Path) -> None:
    (folder / "WEST").mkdir()
    write_file(folder / "WEST" / "a.wl")
    write_file(folder / "b.WL")
    assert Watched(database, folder, partitions=False).origins() == ["b.WL"]


def test_what_is_no_wl_file_is_not_looked_at(watched: Watched) -> None:
    for name in (".a.wl", "a.wl~", "a.wl.tmp", "a.dcm", "lockfile"):
        write_file(watched.path / name)
    (watched.path / "b.wl").mkdir()
    os.mkfifo(watched.path / "c.wl")
    good = write_file(watched.path / "e.wl").rename(os.fsdecode(bytes(watched.path) + b"/\xff.wl"))
    assert watched.origins() == ["\\xff.wl"]
    watched.restart()
    good.unlink()
    assert watched.origins() == []


def test_a_file_that_is_written_slowly_is_read_when_it_is_complete(watched: Watched) -> None:
    complete = write_file(watched.path / "source").read_bytes()
    file = watched.path / "a.wl"
    with file.open("wb", buffering=0) as opened:
        for start in range(0, len(complete), len(complete) // 3):
            opened.write(complete[start : start + len(complete) // 3])
            watched.importing.look()
            assert items_of(watched.database) == []
    assert watched.origins() == ["a.wl"]


def test_a_file_that_is_overwritten_in_place_is_not_lost_meanwhile(watched: Watched) -> None:
    file = write_file(watched.path / "a.wl")
    watched.settle()
    complete = file.read_bytes()
    file.write_bytes(complete[:300])
    a_second_ago = time.time() - 1
    os.utime(file, (a_second_ago, a_second_ago))
    watched.importing.look()
    assert len(items_of(watched.database)) == 1
    file.write_bytes(complete)
    assert watched.origins() == ["a.wl"]


def test_a_file_that_becomes_unreadable_is_no_item_and_one_line_says_why(
    watched: Watched, log: Callable[[str], list[str]]
) -> None:
    file = write_file(watched.path / "a.wl")
    watched.settle()
    file.write_bytes(b"no DICOM at all, for ever")
    os.utime(file, (1, 1))
    watched.settle()
    watched.settle()
    assert items_of(watched.database) == []
    (line,) = log("refused")
    assert str(file) in line
    assert "cut off, or no DICOM" in line
    write_file(file)
    assert watched.origins() == ["a.wl"]


def test_an_incomplete_file_is_served_and_one_line_says_what_is_missing(
    watched: Watched, log: Callable[[str], list[str]]
) -> None:
    write_file(watched.path / "a.wl", dump(station=""))
    assert watched.origins() == ["a.wl"]
    watched.restart()
    watched.settle()
    (line,) = log("lacks")
    assert "missing=ScheduledStationAETitle" in line


def test_while_a_writer_holds_the_lock_file_nothing_is_read(watched: Watched) -> None:
    write_file(watched.path / "a.wl")
    with (watched.path / "lockfile").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not watched.importing.look()
        assert items_of(watched.database) == []
    assert watched.origins() == ["a.wl"]


OPENED: list[str] = []
sys.addaudithook(lambda event, arguments: OPENED.append(str(arguments[0])) if event == "open" else None)


def test_after_a_restart_only_changed_files_are_read(watched: Watched) -> None:
    for name in ("a", "b", "c"):
        write_file(watched.path / f"{name}.wl", dump(step=name))
    watched.settle()
    before = {item.keys.scheduled_procedure_step_id: item.id for item in items_of(watched.database)}
    (watched.path / "b.wl").unlink()
    write_file(watched.path / "c.wl", dump(step="c", name="NEW"))
    OPENED.clear()
    watched.restart()
    watched.settle()
    assert {Path(path).name for path in OPENED if path.endswith(".wl")} == {"c.wl"}
    after = {item.keys.scheduled_procedure_step_id: item for item in items_of(watched.database)}
    assert {step: item.id for step, item in after.items()} == {"a": before["a"], "c": before["c"]}
    assert after["c"].patient_name == "NEW"


def test_a_folder_that_is_gone_has_no_items(watched: Watched) -> None:
    write_file(watched.path / "a.wl")
    watched.settle()
    watched.path.rename(watched.path.with_name("elsewhere"))
    assert watched.origins() == []
    watched.path.with_name("elsewhere").rename(watched.path)
    assert watched.origins() == ["a.wl"]


def test_a_folder_that_is_no_longer_named_has_no_items(watched: Watched, tmp_path: Path) -> None:
    write_file(watched.path / "a.wl")
    watched.settle()
    (tmp_path / "other").mkdir()
    watched.path = tmp_path / "other"
    watched.restart()
    assert watched.origins() == []


def test_gateways_that_share_postgresql_leave_each_others_files_alone(
    postgresql: PostgreSql, folder: Path, tmp_path: Path
) -> None:
    database = connect_postgresql(postgresql.database())
    migrate(database)
    watched = Watched(database, folder)
    write_file(watched.path / "a.wl")
    watched.settle()
    (tmp_path / "theirs").mkdir()
    theirs = Watched(watched.database, tmp_path / "theirs", gateway="theirs")
    write_file(theirs.path / "b.wl", dump(step="S2"))
    theirs.settle()
    assert watched.origins() == ["a.wl", "b.wl"]
    (theirs.path / "b.wl").unlink()
    theirs.restart()
    assert theirs.origins() == ["a.wl"]
    database.close()


def test_hundreds_of_files_are_read_in_several_transactions(watched: Watched) -> None:
    data = write_file(watched.path / "0.wl").read_bytes()
    for number in range(1, 450):
        (watched.path / f"{number}.wl").write_bytes(data)
    watched.settle()
    assert len(items_of(watched.database)) == 450
    for file in watched.path.iterdir():
        file.unlink()
    assert watched.origins() == []


def test_the_kernel_tells_of_changes(tmp_path: Path) -> None:
    folder = tmp_path / "worklists"
    (folder / "WEST").mkdir(parents=True)
    watcher = Watcher([folder])
    other = tmp_path / "other.wl"
    seen: set[Path] = set()

    def told(path: Path) -> bool:
        other.write_text("")
        other.rename(path)  # again and again: the watcher may not have begun
        seen.update(watcher.wait(0.1))
        return path in seen

    for path in (folder / "a.wl", folder / "WEST" / "b.wl"):
        wait_until(lambda path=path: told(path), DEADLINE_S, f"nothing is told of {path}")
    (folder / "a.wl").unlink()
    wait_until(lambda: folder / "a.wl" in watcher.wait(0.1), DEADLINE_S, "nothing is told of the end")
