"""Quotas as senders meet them: the limit exactly, the Error Comment, and nothing kept of what is over it."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread

from gateway.spool import Spool
from tests.conftest import MakeGateway
from tests.scp.conftest import UNREACHABLE_ORTHANC, Log, half_received, spooled
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.dcmtk import start_storescu, storescu
from tests.support.postgresql import PostgreSql
from tests.support.processes import wait_until
from tests.support.rawdicom import DATA_SET, RawPeer, image, p_data, pdv, store_rq
from tests.support.standalone import Gateway

OUT_OF_RESOURCES: Final = 0xA700
SENDERS: Final = 8
DEADLINE_S: Final = 30


def quotas(*rules: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {"Rules": list(rules), **machine}


@pytest.fixture
def start(make_gateway: MakeGateway) -> Iterator[Any]:
    """Starts a gateway without Orthanc and with this section Quotas."""

    def make(section: dict[str, Any], **options: Any) -> Gateway:
        gateway = make_gateway(
            DicomGateway={"Workers": 2, "Orthanc": UNREACHABLE_ORTHANC, "Quotas": section, **options}
        )
        gateway.start()
        return gateway

    return make


def send(gateway: Gateway, uids: list[str], size: int = 0, **fields: Any) -> list[tuple[int, str]]:
    """Status and Error Comment of each instance, sent on one association."""
    answers = []
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        for uid in uids:
            rest = element(PIXEL_DATA, "OW", bytes(size)) if size else b""
            answer = peer.store(uid, image(uid, rest=rest, **fields))
            answers.append((answer.status, answer.comment))
        peer.release()
    return answers


def send_side_by_side(gateways: list[Gateway], count: int) -> Counter[tuple[int, str]]:
    """`count` instances each of SENDERS senders, on the gateways in turn."""

    def one(number: int) -> list[tuple[int, str]]:
        return send(gateways[number % len(gateways)], [f"1.2.{number + 1}.{n + 1}" for n in range(count)])

    with ThreadPoolExecutor(SENDERS) as pool:
        return Counter(answer for answers in pool.map(one, range(SENDERS)) for answer in answers)


def quota_list(gateway: Gateway, rule: str) -> list[str]:
    """The cells of the rule's row in `dicom-gateway quota list`."""
    command = [*gateway.command()[:-2], "quota", "list", "-c", str(gateway.file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if line.strip().startswith(rule))
    return re.split(r"\s{2,}", line.strip())


def reset(gateway: Gateway, rule: str) -> None:
    subprocess.run([*gateway.command()[:-2], "quota", "reset", rule, "-c", str(gateway.file)], check=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_concurrent_senders_get_exactly_the_limit(start: Any, workers: int) -> None:
    gateway = start(quotas({"CallingAet": "RAW", "MaximumInstances": 100}), Workers=workers)
    answers = send_side_by_side([gateway], 20)
    assert answers == {(0, ""): 100, (OUT_OF_RESOURCES, "quota RAW: MaximumInstances 100"): 60}
    assert len(spooled(gateway)) == 100
    assert half_received(gateway) == []
    wait_until(lambda: quota_list(gateway, "RAW")[1] == "100", DEADLINE_S, lambda: str(quota_list(gateway, "RAW")))


def test_processes_side_by_side_get_exactly_the_limit(start: Any, samples: list[Path], tmp_path: Path) -> None:
    gateway = start(quotas({"CallingAet": "STORESCU", "MaximumInstances": 30}))
    source = dcmread(samples[0])
    runs = []
    for sender in range(SENDERS):
        folder = tmp_path / str(sender)
        folder.mkdir()
        for number in range(10):
            source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"1.2.{sender + 1}.{number + 1}"
            source.save_as(folder / f"{number}.dcm")
        # Without the option it would stop at the first refusal.
        runs.append(start_storescu(gateway.dicom_port, [folder], "+sd", "-nh", "-d"))
    output = [run.communicate()[0] for run in runs]
    assert sum(text.count("DIMSE Status                  : 0x0000") for text in output) == 30
    assert len(spooled(gateway)) == 30
    assert any("quota STORESCU: MaximumInstances 30" in text for text in output)


def test_storescu_sees_status_and_error_comment(start: Any, samples: list[Path]) -> None:
    gateway = start(quotas({"Name": "one", "MaximumInstances": 1}))
    assert storescu(gateway.dicom_port, samples[:1]).returncode == 0
    refused = storescu(gateway.dicom_port, samples[1:2], "-d")
    assert "0xa700" in (refused.stdout + refused.stderr).lower()
    assert "quota one: MaximumInstances 1" in refused.stdout + refused.stderr


def test_exhausted_rule_refuses_on_the_command_and_writes_nothing(start: Any) -> None:
    gateway = start(quotas({"MaximumInstances": 1, "Name": "one"}))
    log = Log(gateway)
    assert send(gateway, ["1.2.1"]) == [(0, "")]
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        data_set = image("1.2.2", rest=element(PIXEL_DATA, "OW", bytes(4_000_000)))
        peer.message(1, store_rq("1.2.2"))
        log_size = len(gateway.log_text())
        for start_of_piece in range(0, 2_000_000, 50_000):
            peer.send(p_data(pdv(1, DATA_SET, data_set[start_of_piece : start_of_piece + 50_000])))
        assert half_received(gateway) == []
        assert len(gateway.log_text()) == log_size
        peer.vanish()
    log.expect("the peer left in the middle of an instance")
    assert len(spooled(gateway)) == 1
    assert send(gateway, ["1.2.3"]) == [(OUT_OF_RESOURCES, "quota one: MaximumInstances 1")]
    log.expect("WARNING", "calling=RAW", "0xA700", "quota one: MaximumInstances 1")


@pytest.mark.parametrize(
    ("rule", "sizes", "expected", "comment"),
    [
        ({"MaximumBytes": 10_000}, [4000, 4000, 4000, 100], [0, 0, OUT_OF_RESOURCES, 0], "MaximumBytes 10000"),
        ({"MaximumBytesPerInstance": "2 KiB"}, [1000, 3000], [0, OUT_OF_RESOURCES], "MaximumBytesPerInstance 2048"),
        ({"MaximumInstancesPerStudy": 2}, [0, 0, 0], [0, 0, OUT_OF_RESOURCES], "MaximumInstancesPerStudy 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_limit_is_named_in_the_error_comment(
    start: Any, rule: dict[str, Any], sizes: list[int], expected: list[int], comment: str
) -> None:
    gateway = start(quotas({"Name": "x", **rule}))
    answers = [send(gateway, [f"1.2.{n + 1}"], size)[0] for n, size in enumerate(sizes)]
    assert [status for status, _ in answers] == expected
    assert {text for status, text in answers if status} == {f"quota x: {comment}"}
    assert len(spooled(gateway)) == expected.count(0)
    assert half_received(gateway) == []


def test_other_study_has_room_of_its_own(start: Any) -> None:
    gateway = start(quotas({"Name": "x", "MaximumInstancesPerStudy": 1}))
    assert [send(gateway, [f"1.2.{n}"], study=f"1.3.{n}")[0][0] for n in range(1, 4)] == [0, 0, 0]


def test_refused_instances_cost_nothing(start: Any) -> None:
    gateway = start(quotas({"Name": "x", "MaximumInstances": 3, "MaximumBytes": 100_000}))
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        for number in range(10):
            assert peer.store(f"1.2.{number + 1}", b"garbage, not a data set" * 40).status == 0xC000
            peer.message(1, store_rq("1.2.99"), image("1.2.98"))
            assert peer.response().status == 0xA900
        peer.release()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        peer.message(1, store_rq("1.2.97"))
        peer.send(p_data(pdv(1, DATA_SET, image("1.2.97")[:50])))
        peer.vanish()
    assert [status for status, _ in send(gateway, [f"1.3.{n}" for n in range(1, 5)])] == [0, 0, 0, OUT_OF_RESOURCES]


def test_identical_instance_is_accepted_again_when_there_is_no_room_left(start: Any) -> None:
    gateway = start(quotas({"Name": "x", "MaximumInstances": 2}))
    assert [status for status, _ in send(gateway, ["1.2.1", "1.2.1", "1.2.1", "1.2.2"])] == [0, 0, 0, 0]
    assert send(gateway, ["1.2.2", "1.2.1"]) == [(0, ""), (0, "")]
    assert send(gateway, ["1.2.1"], patient_id="changed")[0][0] == OUT_OF_RESOURCES
    assert send(gateway, ["1.2.3"])[0][0] == OUT_OF_RESOURCES


def test_state_survives_a_restart_and_a_reset_begins_anew(start: Any) -> None:
    gateway = start(quotas({"Name": "x", "MaximumInstances": 2}))
    assert send(gateway, ["1.2.1"]) == [(0, "")]
    gateway.restart()
    assert [status for status, _ in send(gateway, ["1.2.2", "1.2.3"])] == [0, OUT_OF_RESOURCES]
    wait_until(lambda: quota_list(gateway, "x")[1] == "2", DEADLINE_S, "two are not counted")
    reset(gateway, "x")
    assert [status for status, _ in send(gateway, ["1.2.4", "1.2.5", "1.2.6"])] == [0, 0, OUT_OF_RESOURCES]


def test_rules_select_by_ae_titles_and_host(start: Any) -> None:
    gateway = start(
        quotas(
            {"Name": "other modality", "CallingAet": "CT*", "MaximumInstances": 1},
            {"Name": "other host", "Host": "192.0.2.*", "MaximumInstances": 1},
            {"Name": "other called", "CalledAet": "PACS", "MaximumInstances": 1},
            {"Name": "this", "CallingAet": "r?w", "CalledAet": "ORTH*", "Host": "127.0.0.1", "MaximumInstances": 3},
        )
    )
    answers = send(gateway, [f"1.2.{n}" for n in range(1, 5)])
    assert answers == [(0, "")] * 3 + [(OUT_OF_RESOURCES, "quota this: MaximumInstances 3")]


def test_queue_has_a_maximum_length(start: Any) -> None:
    gateway = start(quotas(MaximumQueueLength=25))
    answers = send_side_by_side([gateway], 5)
    comment = "quota MaximumQueueLength: MaximumQueueLength 25"
    assert answers == {(0, ""): 25, (OUT_OF_RESOURCES, comment): 15}
    assert len(spooled(gateway)) == 25
    # Somebody takes one out: there is room for another.
    next(Spool(gateway.state_directory).ready.iterdir()).unlink()
    wait_until(lambda: send(gateway, ["1.9.1"])[0][0] == 0, DEADLINE_S, "no room for what left")


def test_two_gateways_on_one_postgresql_share_the_limit(start: Any, postgresql: PostgreSql) -> None:
    url = postgresql.database()
    gateways = [start(quotas({"Name": "x", "MaximumInstances": 100}), Database=url) for _ in range(2)]
    answers = send_side_by_side(gateways, 20)
    assert answers[(0, "")] == 100
    assert sum(len(spooled(gateway)) for gateway in gateways) == 100


def test_database_that_is_down_refuses_until_it_is_back(start: Any, postgresql: PostgreSql) -> None:
    gateway = start(quotas({"Name": "x", "MaximumInstances": 1000}), Database=postgresql.database(), Workers=1)
    assert send(gateway, ["1.2.1"]) == [(0, "")]
    postgresql.stop()
    try:
        answers = send(gateway, [f"1.3.{n}" for n in range(1, 70)])
    finally:
        postgresql.start()
    # What was leased before may be used up; then nobody is let in uncounted.
    assert answers[0] == (0, "")
    assert answers[-1] == (OUT_OF_RESOURCES, "quota: the database does not answer")
    accepted = 1 + answers.count((0, ""))
    wait_until(lambda: send(gateway, ["1.2.1"])[0][0] == 0, DEADLINE_S, "it does not accept again")
    wait_until(lambda: quota_list(gateway, "x")[1] == str(accepted), DEADLINE_S, lambda: str(quota_list(gateway, "x")))
