"""C-STORE, C-ECHO and N-EVENT-REPORT as SCU, with peers that others wrote: what is sent is what arrives."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

from gateway.dicom.part10 import read_meta
from scp.association_errors import AssociationAborted, AssociationError, AssociationRejected, ContextNotAccepted
from scp.command_set import MoveOriginator
from scp.contexts import STORAGE_CLASSES
from scp.data_set_sources import Chunks, FileRange
from scp.requestor import ProposedContext
from scp.scu import Event, StoredInstance, c_echo, c_store, n_event_report
from tests.conftest import MakeOrthanc
from tests.scp.outgoing import TIMEOUT_S, ct, open_association, store
from tests.support.data_sets import EXPLICIT, IMPLICIT, JPEG_BASELINE, PIXEL_DATA, element
from tests.support.ports import free_port
from tests.support.rawdicom import CT_IMAGE, image
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
LARGE_BYTES: Final = 300 * 1024 * 1024
# Of the sending process in all; the interpreter with pynetdicom in it has about 60 MB.
MAXIMUM_GROWTH_KB: Final = 8 * 1024

StartStoreScp = Callable[..., StoreScp]


@pytest.fixture
def start_storescp(tmp_path: Path) -> Iterator[StartStoreScp]:
    """Starts a storescp with these options."""
    made: list[StoreScp] = []

    def start(*options: str) -> StoreScp:
        made.append(StoreScp(tmp_path / f"storescp{len(made)}", *options))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.mark.parametrize("options", [(), ("+xa",), ("-pdu", "4096"), ("-pdu", "4098"), ("-pdu", "131072")])
@pytest.mark.parametrize("pixel_bytes", [1, 16370, 700_000])
def test_storescp_receives_the_bytes_that_were_sent(
    start_storescp: StartStoreScp, options: tuple[str, ...], pixel_bytes: int
) -> None:
    server = start_storescp(*options)
    data = ct("2.25.7", pixel_bytes, os.urandom(1) + b"\0")
    with open_association(server.port) as association:
        assert c_echo(association.requests, timeout_s=TIMEOUT_S).status == 0
        response = store(association, "2.25.7", Chunks([data[:777], data[777:]]))
        assert (response.status, response.error_comment, response.offending_elements) == (0, "", ())
    assert association.is_released
    assert server.data_set("2.25.7") == data


def test_samples_in_all_transfer_syntaxes_arrive_as_they_are(
    start_storescp: StartStoreScp, samples: list[Path]
) -> None:
    server = start_storescp("+xa")
    sent = {}
    for path in samples:
        with path.open("rb") as file:
            meta, offset = read_meta(file.fileno())
            context = ProposedContext(meta.sop_class_uid, (meta.transfer_syntax_uid,))
            instance = StoredInstance(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
            length = path.stat().st_size - offset
            with open_association(server.port, context) as association:
                source = FileRange(file.fileno(), offset, length)
                assert c_store(association.requests, instance, source, timeout_s=TIMEOUT_S).status == 0
            sent[meta.sop_instance_uid] = path.read_bytes()[offset:]
    assert len(sent) > 5
    assert {uid: server.data_set(uid) for uid in sent} == sent


def test_a_thousand_small_instances_on_one_association(start_storescp: StartStoreScp) -> None:
    """With Nagle's algorithm on, against a delayed ACK, each would take 40 ms."""
    server = start_storescp("--ignore")
    started = time.monotonic()
    with open_association(server.port) as association:
        for number in range(1000):
            assert store(association, f"2.25.{number}").status == 0
    assert time.monotonic() - started < 10


def test_message_ids_start_again_after_the_last(start_storescp: StartStoreScp) -> None:
    server = start_storescp("--ignore")
    with open_association(server.port) as association:
        association.requests._last_message_id = 0xFFFE
        assert [c_echo(association.requests, timeout_s=TIMEOUT_S).message_id for _ in range(3)] == [0xFFFF, 1, 2]


def test_storescp_that_refuses(start_storescp: StartStoreScp) -> None:
    with pytest.raises(AssociationRejected, match="no reason given"):
        open_association(start_storescp("--refuse").port)


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after"])
@pytest.mark.parametrize("pixel_bytes", [100, 40_000_000])
def test_storescp_that_aborts(start_storescp: StartStoreScp, option: str, pixel_bytes: int) -> None:
    server = start_storescp(option)
    association = open_association(server.port)
    with pytest.raises(AssociationError) as caught:
        store(association, "2.25.8", Chunks([ct("2.25.8", pixel_bytes)]))
    # With so much unread DCMTK's close becomes a reset, and its A-ABORT may be lost in it.
    assert isinstance(caught.value, AssociationAborted) or pixel_bytes > 100
    assert association.upper_layer.is_closed
    association.release()


def test_syntax_that_storescp_does_not_accept(start_storescp: StartStoreScp) -> None:
    server = start_storescp("+xi")
    contexts = [ProposedContext(CT_IMAGE, (JPEG_BASELINE,)), ProposedContext(CT_IMAGE, (EXPLICIT, IMPLICIT))]
    with open_association(server.port, *contexts) as association:
        with pytest.raises(ContextNotAccepted):
            store(association, "2.25.9")
        instance = StoredInstance(CT_IMAGE, "2.25.9", IMPLICIT)
        data = image("2.25.9", syntax=IMPLICIT)
        assert c_store(association.requests, instance, Chunks([data]), timeout_s=TIMEOUT_S).status == 0
    assert server.data_set("2.25.9") == data


def test_storescp_knows_every_storage_class_that_we_know(start_storescp: StartStoreScp) -> None:
    server = start_storescp("-pm")
    uids = sorted(STORAGE_CLASSES)[:128]
    with open_association(server.port, *(ProposedContext(uid, (EXPLICIT,)) for uid in uids)) as association:
        assert len(association.accepted_context_ids) == len(uids)


def test_three_hundred_megabytes_need_no_memory(start_storescp: StartStoreScp, tmp_path: Path) -> None:
    """In a process of its own: a sparse file, received by storescp to the same bytes."""
    server = start_storescp()
    head = image("2.25.300", rest=element(PIXEL_DATA, "OW", length=LARGE_BYTES))
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + LARGE_BYTES)
    program = (
        "import os, sys; from tests.scp.outgoing import *; from scp.data_set_sources import FileRange\n"
        "from tests.support.processes import rss_kb, peak_rss_kb\n"
        "association = open_association(int(sys.argv[1])); store(association, '2.25.1'); before = rss_kb(os.getpid())\n"
        "with open(sys.argv[2], 'rb') as file:\n"
        "    source = FileRange(file.fileno(), 0, os.fstat(file.fileno()).st_size)\n"
        "    assert store(association, '2.25.300', source, timeout_s=120).status == 0\n"
        "association.release(); print(peak_rss_kb(os.getpid()) - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(server.port), str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < MAXIMUM_GROWTH_KB
    (received,) = server.received.glob("*.2.25.300")
    with path.open("rb") as sent, received.open("rb") as arrived:
        assert hashlib.file_digest(sent, "sha256").digest() == hashlib.file_digest(arrived, "sha256").digest()


def test_orthanc_stores_what_is_sent_to_it(make_orthanc: MakeOrthanc, samples: list[Path]) -> None:
    orthanc = make_orthanc(dicom_server=True)
    orthanc.start()
    for path in samples[:4]:
        with path.open("rb") as file:
            meta, offset = read_meta(file.fileno())
            context = ProposedContext(meta.sop_class_uid, (meta.transfer_syntax_uid,))
            instance = StoredInstance(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
            with open_association(orthanc.dicom_port, context) as association:
                source = FileRange(file.fileno(), offset, path.stat().st_size - offset)
                assert c_store(association.requests, instance, source, timeout_s=TIMEOUT_S).status == 0
            identifier = orthanc.lookup(meta.sop_instance_uid)
            assert identifier is not None
            (tmp := path.with_suffix(".orthanc")).write_bytes(orthanc.file(identifier))
            stored, sent = dcmread(tmp), dcmread(path)
            assert stored.file_meta.TransferSyntaxUID == meta.transfer_syntax_uid
            assert stored.get("PixelData") == sent.get("PixelData")


class Recorder:
    """A pynetdicom SCP that keeps what it is asked and answers `status`."""

    def __init__(self) -> None:
        self.status: Any = 0x0000
        self.events: list[Any] = []
        self.port = free_port()
        ae = AE(ae_title="STORESCP")
        ae.add_supported_context(CTImageStorage, [EXPLICIT])
        ae.add_supported_context(Verification)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_C_STORE, self._on_store), (evt.EVT_N_EVENT_REPORT, self._on_report)]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _on_store(self, event: Any) -> Any:
        self.events.append((event.request, event.encoded_dataset(include_meta=False)))
        return self.status

    def _on_report(self, event: Any) -> Any:
        self.events.append((event.request, event.event_information))
        reply = Dataset()
        reply.TransactionUID = "2.25.5"
        return self.status, reply


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.server.shutdown()


def test_pynetdicom_receives_what_the_command_says(recorder: Recorder) -> None:
    with open_association(recorder.port) as association:
        store(association, "2.25.10", priority=2, move_originator=MoveOriginator("WORKSTATION", 65535))
        store(association, "2.25.11")
    (first, data), (second, _) = recorder.events
    assert data == ct("2.25.10")
    assert (first.MessageID, first.Priority) == (1, 2)
    assert (first.MoveOriginatorApplicationEntityTitle, first.MoveOriginatorMessageID) == ("WORKSTATION", 65535)
    assert (first.AffectedSOPClassUID, first.AffectedSOPInstanceUID) == (CT_IMAGE, "2.25.10")
    assert (second.MessageID, second.Priority, second.MoveOriginatorApplicationEntityTitle) == (2, 0, None)


def test_refusal_of_pynetdicom_is_reported_and_the_association_goes_on(recorder: Recorder) -> None:
    refusal = Dataset()
    refusal.Status, refusal.ErrorComment, refusal.OffendingElement = 0xA900, "no such thing", [0x00080016, 0x00100020]
    with open_association(recorder.port) as association:
        recorder.status = refusal
        response = store(association, "2.25.12")
        assert (response.status, response.error_comment) == (0xA900, "no such thing")
        assert response.offending_elements == (0x00080016, 0x00100020)
        recorder.status = 0xB000
        assert store(association, "2.25.13").status == 0xB000


@pytest.mark.parametrize("with_reply", [True, False])
def test_event_report(recorder: Recorder, with_reply: bool) -> None:
    """Its response may have a data set of its own, and the association goes on behind it."""
    recorder.status = 0x0000 if with_reply else 0x0110
    report = Dataset()
    report.TransactionUID = "2.25.99"
    event = Event(StorageCommitmentPushModel, COMMITMENT_INSTANCE, 1)
    context = ProposedContext(StorageCommitmentPushModel, (IMPLICIT,), scu=False, scp=True)
    with open_association(recorder.port, context) as association:
        number = association.requests.context_id(StorageCommitmentPushModel, IMPLICIT, "scp")
        for _ in range(2):
            data_set = Chunks([_encoded(report)])
            response = n_event_report(association.requests, number, event, data_set, timeout_s=TIMEOUT_S)
            assert response.status == recorder.status
    request, information = recorder.events[0]
    assert information == report
    assert (request.EventTypeID, request.AffectedSOPInstanceUID) == (1, COMMITMENT_INSTANCE)


def _encoded(data_set: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, data_set, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def test_outgoing_data_leave_in_large_writes(start_storescp: StartStoreScp, tmp_path: Path) -> None:
    """Of a small instance command and data set are one segment, of a large one several PDUs are one write."""
    server = start_storescp("--ignore")
    trace = tmp_path / "trace"
    program = (
        "import sys; from tests.scp.outgoing import *\n"
        "association = open_association(int(sys.argv[1]))\n"
        "for size in (1000, 2_000_000): store(association, '2.25.1', Chunks([ct('2.25.1', size)]))\n"
        "association.release()\n"
    )
    command = ["strace", "-f", "-e", "trace=sendto", "-o", str(trace), sys.executable, "-c", program]
    subprocess.run([*command, str(server.port)], cwd=Path(__file__).parents[2], check=True, timeout=TIMEOUT_S * 3)
    sends = [line for line in trace.read_text().splitlines() if "sendto(" in line]
    sent = [int(line.rpartition("= ")[2].split()[0]) for line in sends if "EAGAIN" not in line]
    # A-ASSOCIATE-RQ, then the small instance at once, then 2 MB that are 123 PDUs of 16 KiB for this peer.
    assert sent[1] > 1000
    assert sum(sent[2:]) > 2_000_000
    assert len(sent) < 70, sent
