"""The harness itself, proven against Orthanc's own SCP: what fails elsewhere is not the harness."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.conftest import MakeOrthanc
from tests.support import processes
from tests.support.dcmtk import echoscu, start_storescu, storescu, transfer_syntax_option
from tests.support.images import SAMPLES, make_ct, make_cts, sop_instance_uid
from tests.support.orthanc import PYTHON_PLUGIN, Orthanc
from tests.support.ports import accepts, free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def built_in(make_orthanc: MakeOrthanc) -> Orthanc:
    server = make_orthanc(dicom_server=True)
    server.start()
    return server


def test_orthanc_accepts_all_samples_as_they_are(built_in: Orthanc, samples: list[Path]) -> None:
    for sample, path in zip(SAMPLES, samples, strict=True):
        sent = storescu(built_in.dicom_port, [path], "-R", transfer_syntax_option(path))
        assert sent.returncode == 0, sent.stderr
        identifier = built_in.lookup(sop_instance_uid(path))
        assert identifier is not None, sample
    assert built_in.count() == len(SAMPLES)


def test_sample_files_have_the_transfer_syntax_that_the_table_says() -> None:
    for sample in SAMPLES:
        meta = dcmread(sample.path, stop_before_pixels=True).file_meta
        assert meta.TransferSyntaxUID == sample.transfer_syntax


def test_synthetic_images_are_distinct_and_stored_as_sent(built_in: Orthanc, tmp_path: Path) -> None:
    paths = make_cts(tmp_path / "ct", 20)
    sending = start_storescu(built_in.dicom_port, paths, "-R", env_nodelay=True)
    output, _ = sending.communicate(timeout=60)
    assert sending.returncode == 0, output
    built_in.wait_for_count(20)
    for path in paths:
        sent = dcmread(path)
        stored = dcmread(BytesIO(built_in.file(str(built_in.lookup(sent.SOPInstanceUID)))))
        assert stored.PixelData == sent.PixelData
        assert stored == sent


def test_synthetic_images_have_the_promised_sizes(tmp_path: Path) -> None:
    make_ct(tmp_path / "small", 128, 128, seed=1)
    make_ct(tmp_path / "large", 512, 512, seed=1)
    assert 32 * 1024 < (tmp_path / "small").stat().st_size < 34 * 1024
    assert 512 * 1024 < (tmp_path / "large").stat().st_size < 514 * 1024
    assert make_ct(tmp_path / "other", 128, 128, seed=1, series=1) != sop_instance_uid(tmp_path / "small")
    assert dcmread(tmp_path / "other").StudyInstanceUID != dcmread(tmp_path / "small").StudyInstanceUID


def test_instances_survive_kill_and_restart_of_orthanc(built_in: Orthanc, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct.dcm", 128, 128, seed=1)
    assert storescu(built_in.dicom_port, [tmp_path / "ct.dcm"]).returncode == 0
    built_in.kill()
    assert not accepts(built_in.dicom_port)
    built_in.start()
    assert echoscu(built_in.dicom_port).returncode == 0
    assert built_in.count() == 1
    assert built_in.stop() == 0
    assert built_in.family() == []
    assert echoscu(built_in.dicom_port).returncode != 0


def test_start_tells_why_orthanc_ended(make_orthanc: MakeOrthanc) -> None:
    server = make_orthanc(PythonScript="no-such-file.py", Plugins=[PYTHON_PLUGIN])
    with pytest.raises(AssertionError, match="no-such-file"):
        server.start()


def test_processes_of_a_server_are_seen(built_in: Orthanc) -> None:
    assert built_in.family() == [built_in.pid]
    assert processes.cmdline(built_in.pid)[0] == "/usr/sbin/Orthanc"
    assert processes.threads(built_in.pid) > 1
    assert 1_000 < processes.rss_kb(built_in.pid) <= processes.peak_rss_kb(built_in.pid)
    assert any("socket" in target for target in processes.open_fds(built_in.pid).values())
    assert processes.listeners(built_in.dicom_port) == 1
    assert processes.listeners(free_port()) == 0
    assert built_in.gateway_processes == []
