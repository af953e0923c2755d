"""What Orthanc's answers mean: the table, and the bodies of a real Orthanc behind each row."""

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from gateway.forwarding.transports import Endpoint, HttpTransport
from gateway.forwarding.verdicts import Reply, Verdict, error_code, judge, judge_batch
from tests.conftest import MakeOrthanc
from tests.support.images import make_ct, sop_instance_uid
from tests.support.orthanc import Orthanc

GARBAGE = b"no DICOM" * 40


def described(http_status: int, orthanc_status: int) -> Reply:
    body = json.dumps({"HttpStatus": http_status, "OrthancStatus": orthanc_status}).encode()
    return Reply(http_status, body, error_code(body))


def stored(status: Any) -> Reply:
    return Reply(200, json.dumps({"ID": "id", "Status": status}).encode())


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (stored("Success"), Verdict.DELIVERED),
        (stored("FilteredOut"), Verdict.DELIVERED),
        (stored("AlreadyStored"), Verdict.ALREADY_STORED),
        (stored("Failure"), Verdict.RETRY),
        (stored("StorageFull"), Verdict.HOLD),
        (stored(None), Verdict.HOLD),
        (stored(["Success"]), Verdict.HOLD),
        (Reply(200, b'[{"Status": "Success", "ID": "id"}]'), Verdict.DELIVERED),
        (Reply(200, b"[]"), Verdict.HOLD),
        (Reply(200, b'[{"Status": "Success"}, {"Status": "Success"}]'), Verdict.HOLD),
        (Reply(200, b"null"), Verdict.HOLD),
        (Reply(200, b"<html>"), Verdict.HOLD),
        (Reply(200, b"\xff"), Verdict.HOLD),
        (Reply(200, b"[" * 100_000), Verdict.HOLD),
        (described(400, 15), Verdict.REFUSED),
        (described(404, 21), Verdict.REFUSED),
        (described(400, 3), Verdict.REFUSED),
        (described(400, 5), Verdict.REFUSED),
        (described(400, 21), Verdict.REFUSED),
        # The same codes in an answer that Orthanc does not give for them.
        (described(403, 15), Verdict.HOLD),
        (described(500, 15), Verdict.RETRY),
        (described(500, 14), Verdict.HOLD),
        (described(500, 19), Verdict.HOLD),
        (described(507, 19), Verdict.HOLD),
        (described(500, 42), Verdict.RETRY),
        (described(503, 42), Verdict.RETRY),
        (described(500, -1), Verdict.RETRY),
        (described(400, 8), Verdict.HOLD),
        (described(404, 17), Verdict.HOLD),
        (Reply(400), Verdict.HOLD),
        (Reply(400, b"[]"), Verdict.HOLD),
        (Reply(204), Verdict.HOLD),
        (Reply(302), Verdict.HOLD),
        (Reply(401), Verdict.HOLD),
        (Reply(403), Verdict.HOLD),
        (Reply(404), Verdict.HOLD),
        (Reply(407), Verdict.HOLD),
        (Reply(413), Verdict.HOLD),
        (Reply(429), Verdict.HOLD),
        (Reply(500), Verdict.RETRY),
        (Reply(501), Verdict.RETRY),
        (Reply(502), Verdict.HOLD),
        (Reply(503), Verdict.HOLD),
        (Reply(504), Verdict.HOLD),
        # From the plugin: a body, or the code of an exception.
        (Reply(None, b'{"ID": "id", "Status": "Success"}'), Verdict.DELIVERED),
        (Reply(None, b'{"ID": "id", "Status": "Failure"}'), Verdict.RETRY),
        (Reply(None, b"", 15), Verdict.REFUSED),
        (Reply(None, b"", 21), Verdict.REFUSED),
        (Reply(None, b"", 19), Verdict.HOLD),
        (Reply(None, b"", 14), Verdict.HOLD),
        (Reply(None, b"", 42), Verdict.RETRY),
        (Reply(None, b"", 17), Verdict.HOLD),
        (Reply(None, b"", 0), Verdict.HOLD),
    ],
    ids=lambda value: str(value)[:70],
)
def test_table(reply: Reply, verdict: Verdict) -> None:
    judgement = judge(reply)
    assert judgement.verdict is verdict
    assert judgement.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Success", "Failure"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["ID", "Status", "OrthancStatus", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from([None, 200, 302, 400, 404, 500, 503]),
    JSON.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=40),
)
def test_any_body_is_judged_and_only_orthancs_own_refusals_refuse(http_status: int | None, body: bytes) -> None:
    code = error_code(body)
    for reply in (Reply(http_status, body), Reply(http_status, body, code)):
        verdict = judge(reply).verdict
        if verdict is Verdict.REFUSED:
            assert http_status in (None, 400, 404)
            assert code in (3, 5, 15, 21)
        if verdict is Verdict.DELIVERED:
            assert http_status in (None, 200)
        assert all(
            judgement.verdict in (Verdict.DELIVERED, Verdict.ALREADY_STORED)
            for judgement in judge_batch(reply).values()
        )


# From here on: what Orthanc 1.10.1 says.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("verdicts"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def images(tmp_path: Path, request: pytest.FixtureRequest) -> list[bytes]:
    """Instances of a series of this test alone."""
    series = sum(map(ord, request.node.name))
    contents = []
    for seed in range(3):
        path = tmp_path / f"{seed}.dcm"
        make_ct(path, 16, 16, seed, series)
        contents.append(path.read_bytes())
    return contents


def post(server: Orthanc, body: bytes, **endpoint: Any) -> Reply:
    return HttpTransport(Endpoint(server.url, **endpoint)).post("/instances", body, len(body))


def zipped(*files: bytes) -> bytes:
    body = BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for number, file in enumerate(files):
            archive.writestr(f"{number}.dcm", file)
    return body.getvalue()


def without(file: bytes, keyword: str) -> bytes:
    data_set = dcmread(BytesIO(file))
    del data_set[keyword]
    written = BytesIO()
    data_set.save_as(written)
    return written.getvalue()


def of_patient(file: bytes, patient_id: str) -> bytes:
    data_set = dcmread(BytesIO(file))
    data_set.PatientID = patient_id
    written = BytesIO()
    data_set.save_as(written)
    return written.getvalue()


@pytest.mark.integration
def test_orthanc_stores_and_stores_again(server: Orthanc, images: list[bytes], tmp_path: Path) -> None:
    first, second = judge(post(server, images[0])), judge(post(server, images[0]))
    assert (first.verdict, second.verdict) == (Verdict.DELIVERED, Verdict.ALREADY_STORED)
    assert first.orthanc_id == second.orthanc_id == server.lookup(sop_instance_uid(tmp_path / "0.dcm"))


@pytest.mark.integration
@pytest.mark.parametrize("file", [GARBAGE, b"", bytes(128) + b"DICM" + bytes(20)], ids=["garbage", "empty", "meta"])
def test_orthanc_refuses_what_is_no_dicom(server: Orthanc, file: bytes) -> None:
    reply = post(server, file)
    assert reply.http_status == 400
    assert judge(reply).verdict is Verdict.REFUSED


@pytest.mark.integration
@pytest.mark.parametrize(
    ("tag", "code"),
    [(b"\x02\0\x03\0", 3), (b"\x08\0\x18\0", 5), (b"\x20\0\x0d\0", 5), (b"\x20\0\x0e\0", 5)],
    ids=["media storage SOP instance UID", "SOP instance UID", "study instance UID", "series instance UID"],
)
def test_orthanc_refuses_an_identifier_of_unknown_vr(
    server: Orthanc, images: list[bytes], tag: bytes, code: int
) -> None:
    reply = post(server, images[0].replace(tag + b"UI", tag + b"??"))
    assert (reply.http_status, reply.orthanc_status) == (400, code)
    assert judge(reply).verdict is Verdict.REFUSED


@pytest.mark.integration
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_orthanc_refuses_an_instance_without_its_uids(server: Orthanc, images: list[bytes], keyword: str) -> None:
    reply = post(server, without(images[0], keyword))
    assert (reply.http_status, reply.orthanc_status) == (404, 21)
    assert judge(reply).verdict is Verdict.REFUSED


@pytest.mark.integration
def test_archive_with_duplicates_and_bad_files(server: Orthanc, images: list[bytes]) -> None:
    bad = [GARBAGE, without(images[2], "StudyInstanceUID")]
    judgements = judge_batch(post(server, zipped(images[0], bad[0], images[1], images[0], bad[1])))
    # Of the instance that was there twice the second answer counts: it is compared, and found the same.
    assert sorted(judgement.verdict.name for judgement in judgements.values()) == ["ALREADY_STORED", "DELIVERED"]
    assert judgements.keys() <= set(server.instances())


@pytest.mark.integration
def test_archive_of_nothing_good_settles_nothing(server: Orthanc) -> None:
    assert judge_batch(post(server, zipped(GARBAGE, GARBAGE))) == {}
    assert judge_batch(post(server, zipped(GARBAGE, GARBAGE)[:100])) == {}


@pytest.mark.integration
def test_filtered_out_is_delivered(make_orthanc: MakeOrthanc, images: list[bytes], tmp_path: Path) -> None:
    script = tmp_path / "filter.lua"
    script.write_text("function ReceivedInstanceFilter(dicom, origin, info) return false end")
    server = make_orthanc(LuaScripts=[str(script)])
    server.start()
    judgement = judge(post(server, images[0]))
    assert (judgement.verdict, judgement.reason) == (Verdict.DELIVERED, "Orthanc's status is FilteredOut")
    verdicts = [judgement.verdict for judgement in judge_batch(post(server, zipped(*images))).values()]
    assert verdicts == [Verdict.DELIVERED] * 3
    assert server.count() == 0


@pytest.mark.integration
def test_authentication_is_trouble_on_the_way(make_orthanc: MakeOrthanc, images: list[bytes]) -> None:
    server = make_orthanc(AuthenticationEnabled=True, RegisteredUsers={"gateway": "secret"})
    server.start()
    for wrong in ({}, {"credentials": ("gateway", "wrong")}, {"authorization": "Bearer expired"}):
        reply = post(server, images[0], **wrong)
        assert reply.http_status == 401
        assert judge(reply).verdict is Verdict.HOLD
    assert judge(post(server, images[0], credentials=("gateway", "secret"))).verdict is Verdict.DELIVERED


@pytest.mark.integration
def test_full_storage_is_waited_for(make_orthanc: MakeOrthanc, images: list[bytes]) -> None:
    server = make_orthanc(MaximumPatientCount=1)
    server.start()
    assert judge(post(server, images[0])).verdict is Verdict.DELIVERED
    (patient,) = server.get("/patients")
    server._request("PUT", f"/patients/{patient}/protected", data="1")
    reply = post(server, of_patient(images[1], "ANOTHER"))
    assert (reply.http_status, reply.orthanc_status) == (500, 19)
    assert judge(reply).verdict is Verdict.HOLD
    assert judge_batch(post(server, zipped(*(of_patient(image, "ANOTHER") for image in images)))) == {}
    server._request("PUT", f"/patients/{patient}/protected", data="0")
    assert judge(post(server, of_patient(images[1], "ANOTHER"))).verdict is Verdict.DELIVERED


@pytest.mark.integration
def test_storage_that_cannot_be_written_fails_no_instance(make_orthanc: MakeOrthanc, images: list[bytes]) -> None:
    server = make_orthanc(IndexDirectory="index")
    server.start()
    storage = Path(server.configuration["StorageDirectory"])
    for path in sorted(storage.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    storage.rmdir()
    storage.write_text("in the way")
    assert judge(post(server, images[0])).verdict in (Verdict.RETRY, Verdict.HOLD)
    storage.unlink()
    assert judge(post(server, images[0])).verdict is Verdict.DELIVERED


@pytest.mark.integration
def test_errors_that_orthanc_does_not_describe_refuse_nothing(make_orthanc: MakeOrthanc) -> None:
    server = make_orthanc(HttpDescribeErrors=False)
    server.start()
    reply = post(server, GARBAGE)
    assert (reply.http_status, reply.orthanc_status) == (400, None)
    assert judge(reply).verdict is Verdict.HOLD
