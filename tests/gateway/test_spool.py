"""The spool: who may read it, who owns what is half received, and what survives."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pydicom
import pytest

from gateway.spool import (
    Spool,
    SpoolError,
    SpoolWriter,
    make_private_directory,
    state_directory_lock,
)
from tests.support.orthanc import REPOSITORY
from tests.support.spooled import META


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "state")
    spool.prepare()
    return spool


@pytest.fixture
def writer(spool: Spool) -> SpoolWriter:
    return SpoolWriter(spool)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def instance(writer: SpoolWriter, content: bytes = b"data set") -> Path:
    file = writer.create(META)
    file.write((content,))
    file.commit()
    return file.ready_path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


# Who may read it.


def test_everything_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "state")
        spool.prepare()
        path = instance(SpoolWriter(spool))
        spool.fail(path, {"reason": "x"})
        with state_directory_lock(tmp_path / "state"):
            pass
    finally:
        os.umask(before)
    for found in (tmp_path / "state").rglob("*"):
        assert mode(found) == (0o700 if found.is_dir() else 0o600), found
    assert mode(tmp_path / "state") == 0o700


@pytest.mark.parametrize("bits", [0o040, 0o004, 0o020, 0o001, 0o077])
@pytest.mark.parametrize("folder", ["", "spool", "spool/ready", "spool/incoming", "spool/failed", "spool/delivered"])
def test_spool_that_others_can_access_is_refused(spool: Spool, folder: str, bits: int) -> None:
    path = spool.root.parent / folder
    path.chmod(0o700 | bits)
    with pytest.raises(SpoolError, match=f"{path}: holds patient data but others can access it .*chmod 700") as caught:
        spool.prepare()
    assert "\n" not in str(caught.value)
    assert mode(path) == 0o700 | bits, "it is for the administrator to decide"
    path.chmod(0o700)
    spool.prepare()


def test_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(SpoolError, match="File exists"):
        Spool(tmp_path / "state").prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "state")
    os.chown(tmp_path / "state", 12345, 12345)
    with pytest.raises(SpoolError, match="belongs to user 12345"):
        make_private_directory(tmp_path / "state")


# Receiving.


def test_committed_instance_is_a_part_10_file_in_ready(spool: Spool, writer: SpoolWriter) -> None:
    file = writer.create(META)
    data_set = b"\x10\x00\x20\x00LO\x04\x00PID1"
    for byte in data_set:
        file.write((bytes([byte]),))
    assert file.data_set_length == len(data_set)
    assert spool.names(spool.ready) == []
    file.commit()
    assert spool.names(spool.ready) == [file.ready_path.name]
    assert files(spool.incoming) == []
    assert file.ready_path.stat().st_size == file.size
    read = pydicom.dcmread(file.ready_path)
    assert read.PatientID == "PID1"
    assert read.file_meta.SendingApplicationEntityTitle == META.sending_ae_title


def test_many_pieces_are_written_in_their_order(writer: SpoolWriter) -> None:
    pieces = [bytes([n % 256]) * (n * 7) for n in range(300)]
    file = writer.create(META)
    file.write([memoryview(piece) for piece in pieces])
    file.commit()
    assert file.ready_path.read_bytes()[file.data_set_offset :] == b"".join(pieces)


def test_names_are_in_the_order_of_arrival(spool: Spool, writer: SpoolWriter) -> None:
    other = SpoolWriter(spool)
    paths = [instance(writer if number % 2 else other) for number in range(50)]
    assert spool.names(spool.ready) == [path.name for path in paths]


def test_discarded_instance_leaves_nothing(spool: Spool, writer: SpoolWriter) -> None:
    file = writer.create(META)
    file.write((b"half",))
    file.discard()
    assert files(spool.root) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fd)


def test_handed_over_instance_stays_in_incoming_and_is_whole(spool: Spool, writer: SpoolWriter) -> None:
    file = writer.create(META)
    file.write((b"data set",))
    path = file.hand_over()
    assert path.parent.parent == spool.incoming
    assert path.read_bytes() == META.encode() + b"data set"
    assert spool.names(spool.ready) == []


@contextlib.contextmanager
def broken(fd: int) -> Iterator[None]:
    """The descriptor leads to a pipe, which cannot be flushed (fsync(2): EINVAL)."""
    reading, writing = os.pipe()
    kept = os.dup(fd)
    os.dup2(writing, fd)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.fstat(fd)
            os.dup2(kept, fd)
        for each in (reading, writing, kept):
            os.close(each)


@pytest.mark.parametrize("finish", ["commit", "hand_over"])
def test_instance_that_cannot_be_flushed_is_not_acknowledged(spool: Spool, writer: SpoolWriter, finish: str) -> None:
    file = writer.create(META)
    with broken(file.fd), pytest.raises(OSError, match="Invalid argument"):
        getattr(file, finish)()
    assert files(spool.root) == []


def test_instance_whose_name_cannot_be_flushed_is_not_acknowledged(spool: Spool, writer: SpoolWriter) -> None:
    folder = next(
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and os.path.realpath(link) == str(spool.ready)
    )
    file = writer.create(META)
    with broken(folder), pytest.raises(OSError, match="Invalid argument"):
        file.commit()
    assert files(spool.root) == []
    assert instance(writer).exists()


def test_instance_that_cannot_be_moved_is_not_acknowledged(spool: Spool, writer: SpoolWriter) -> None:
    file = writer.create(META)
    spool.ready.rmdir()
    with pytest.raises(FileNotFoundError):
        file.commit()
    assert files(spool.root) == []


FULL_DISK = dedent("""
    import errno, subprocess, sys
    from pathlib import Path
    from gateway.spool import Spool, SpoolWriter
    from tests.support.spooled import META

    state = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", state], check=True)
    spool = Spool(state)
    spool.prepare()
    writer = SpoolWriter(spool)
    file = writer.create(META)
    for _ in range(100):
        try:
            file.write((bytes(10_000), bytes(10_000)))
        except OSError as error:
            assert error.errno == errno.ENOSPC
            break
    else:
        sys.exit("the disk is not full")
    assert file.path.stat().st_size == file.size
    for _ in range(3):
        try:
            writer.create(META)
            sys.exit("there was room for the file meta information")
        except OSError as error:
            assert error.errno == errno.ENOSPC
    file.discard()
    assert [path.name for path in spool.incoming.rglob("*") if path.is_file()] == ["lock"]
    file = writer.create(META)
    file.write((b"small",))
    file.commit()
    assert file.ready_path.read_bytes() == META.encode() + b"small"
    print("passed")
""")


def test_full_disk_is_an_error_of_its_instance_only(tmp_path: Path) -> None:
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a mount of its own is not allowed here")
    (tmp_path / "disk").mkdir()
    run = subprocess.run(
        [*alone, sys.executable, "-c", FULL_DISK, str(tmp_path / "disk")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=REPOSITORY,
    )
    assert run.stdout == "passed\n", run.stderr


LIMITED_FILE = dedent("""
    import errno, resource, sys
    from pathlib import Path
    from gateway.spool import Spool, SpoolWriter
    from tests.support.spooled import META

    spool = Spool(Path(sys.argv[1]))
    spool.prepare()
    writer = SpoolWriter(spool)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    file = writer.create(META)
    try:
        file.write((bytes(30_000), bytes(30_000)))
        sys.exit("half a write was taken for a whole one")
    except OSError as error:
        assert error.errno == errno.EFBIG
    assert file.path.stat().st_size == file.size == 50_000
    file.discard()
    print("passed")
""")


def test_write_that_is_cut_short_is_counted_and_then_fails(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED_FILE, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=REPOSITORY,
    )
    assert run.stdout == "passed\n", run.stderr


# Writers and recovery.

WRITER = dedent("""
    import sys
    from pathlib import Path
    from gateway.spool import Spool, SpoolWriter
    from tests.support.spooled import META

    writer = SpoolWriter(Spool(Path(sys.argv[1])))
    for number in range(3):
        file = writer.create(META)
        file.write((b"half received",))
    print(file.path.parent.name, flush=True)
    sys.stdin.read()
    writer.close()
""")


@contextlib.contextmanager
def another_writer(spool: Spool) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has received three instances by half, and the name of its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(spool.root.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_recovery_leaves_a_live_writer_alone_and_cleans_up_after_a_dead_one(spool: Spool) -> None:
    with another_writer(spool) as (process, name):
        assert spool.live_writers() == [name]
        assert spool.recover() == 0
        assert len(files(spool.incoming / name)) == 3
        process.kill()
        process.wait()
        assert spool.live_writers() == []
        assert spool.recover() == 3
        assert list(spool.incoming.iterdir()) == []
        assert spool.recover() == 0


def test_recovery_for_one_process_touches_no_other(spool: Spool) -> None:
    with another_writer(spool) as (first, _name), another_writer(spool) as (second, other):
        for process in (first, second):
            process.kill()
            process.wait()
        assert spool.recover(first.pid) == 3
        assert [folder.name for folder in spool.incoming.iterdir()] == [other]
        assert spool.recover() == 3


def test_recovery_touches_nothing_that_was_acknowledged(spool: Spool, writer: SpoolWriter) -> None:
    ready, failed = instance(writer), instance(writer)
    spool.fail(failed, {})
    with another_writer(spool) as (process, _name):
        process.kill()
        process.wait()
        spool.recover()
    assert ready.exists()
    assert spool.names(spool.failed) == [failed.name]


def test_writer_that_ends_in_order_leaves_nothing(spool: Spool) -> None:
    with another_writer(spool) as (process, _name):
        process.communicate("")
        assert process.returncode == 0
        assert list(spool.incoming.iterdir()) == []


def test_one_state_directory_serves_one_gateway(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = (
        "import sys\nfrom pathlib import Path\nfrom gateway.spool import state_directory_lock\n"
        "with state_directory_lock(Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(SpoolError, match="another gateway runs on this state directory"),
            state_directory_lock(state),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with state_directory_lock(state), pytest.raises(SpoolError), state_directory_lock(state):
        pass
    with state_directory_lock(state):
        pass


# What became of an instance.


def test_failed_instance_has_a_note_and_comes_back_without_it(spool: Spool, writer: SpoolWriter) -> None:
    path = instance(writer)
    content = path.read_bytes()
    note = {"reason": "Orthanc refuses it: ü\n", "attempts": 3}
    spool.fail(path, note)
    assert not path.exists()
    assert spool.names(spool.failed) == [path.name]
    assert spool.note(path.name) == note
    assert files(spool.failed) == [path.name, path.name + ".json"]
    spool.retry(path.name)
    assert path.read_bytes() == content
    assert files(spool.failed) == []
    assert spool.note(path.name) == {}


def test_discarded_failed_instance_is_gone_with_its_note(spool: Spool, writer: SpoolWriter) -> None:
    keep, drop = instance(writer), instance(writer)
    for path in (keep, drop):
        spool.fail(path, {"reason": path.name})
    spool.discard(drop.name)
    assert files(spool.failed) == [keep.name, keep.name + ".json"]
    assert spool.note(keep.name) == {"reason": keep.name}


def test_what_is_not_in_failed_is_neither_retried_nor_discarded(spool: Spool, writer: SpoolWriter) -> None:
    path = instance(writer)
    for action in (spool.retry, spool.discard):
        with pytest.raises(FileNotFoundError):
            action(path.name)
    assert path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_note_that_cannot_be_read_is_empty(spool: Spool, writer: SpoolWriter, content: bytes) -> None:
    path = instance(writer)
    spool.fail(path, {"reason": "x"})
    (spool.failed / (path.name + ".json")).write_bytes(content)
    assert spool.note(path.name) == {}


def test_failing_again_replaces_the_note(spool: Spool, writer: SpoolWriter) -> None:
    path = instance(writer)
    for attempt in range(3):
        spool.fail(path, {"attempt": attempt})
        assert spool.note(path.name) == {"attempt": attempt}
        spool.retry(path.name)


def test_instances_are_what_ends_in_dcm(spool: Spool, writer: SpoolWriter) -> None:
    path = instance(writer)
    (spool.ready / "README").write_text("")
    (spool.ready / "half.dcm.part").write_text("")
    assert spool.names(spool.ready) == [path.name]


def test_instance_that_cannot_be_moved_to_failed_stays(spool: Spool, writer: SpoolWriter) -> None:
    path = instance(writer)
    spool.failed.rmdir()
    with pytest.raises(OSError) as caught:
        spool.fail(path, {})
    assert caught.value.errno == errno.ENOENT
    assert path.exists()


def test_file_that_cannot_be_removed_is_closed_once_and_left_to_the_recovery(spool: Spool, writer: SpoolWriter) -> None:
    """As on a file system that the kernel has made read-only after an error of the disk."""
    file = writer.create(META)
    file.path.unlink()
    file.path.mkdir()
    file.discard()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(file.fd)
    assert file.path.is_dir()
