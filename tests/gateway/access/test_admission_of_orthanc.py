"""The same configuration in Orthanc's built-in SCP and here: what is allowed must agree, but for what docs list."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.access.admission import Admission, Verb
from gateway.options.config import parse
from tests.conftest import MakeGateway, MakeOrthanc
from tests.support.data_sets import element
from tests.support.dcmtk import echoscu, storescu
from tests.support.images import make_ct
from tests.support.rawdicom import (
    A_ABORT,
    CT_IMAGE,
    VERIFICATION,
    Context,
    RawPeer,
    Rejected,
    command_set,
    echo_rq,
    image,
    store_rq,
)

pytestmark = pytest.mark.integration

WORKLIST_PLUGIN: Final = "/usr/share/orthanc/plugins/libModalityWorklists.so"
ADDRESS: Final = "127.0.0.1"
ELSEWHERE: Final = "192.0.2.9"

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
WORKLIST: Final = "1.2.840.10008.5.1.4.31"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"

NOBODY: Final = {verb.always: False for verb in Verb if verb.always}
OPTIONAL: Final = {verb.key: False for verb in Verb}

STUDY: Final = element(0x00080052, "CS", b"STUDY ") + element(0x0020000D, "UI", b"1.2.3\0")
WORKLIST_KEYS: Final = element(0x00100010, "PN", b"")


def _sequence(tag: int, item: bytes) -> bytes:
    items = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"SQ\0\0" + struct.pack("<L", len(items)) + items


REFERENCE: Final = element(0x00081150, "UI", CT_IMAGE.encode() + b"\0") + element(0x00081155, "UI", b"1.2.3.4\0")
TRANSACTION: Final = element(0x00081195, "UI", b"2.25.1") + _sequence(0x00081199, REFERENCE)


def _rq(field: int, elements: Mapping[int, int | str]) -> bytes:
    """The command set of a request with data set (PS3.7 9.3 and 10.3)."""
    return command_set(dict(sorted({0x0100: field, 0x0110: 1, 0x0800: 0, **elements}.items())))


# For each verb: the abstract syntax, and a request with its data set.
REQUESTS: Final[Mapping[Verb, tuple[str, bytes, bytes | None]]] = {
    Verb.ECHO: (VERIFICATION, echo_rq(), None),
    Verb.STORE: (CT_IMAGE, store_rq("1.2.3.77"), image("1.2.3.77")),
    Verb.FIND: (FIND, _rq(0x0020, {0x0002: FIND, 0x0700: 0}), STUDY),
    Verb.FIND_WORKLIST: (WORKLIST, _rq(0x0020, {0x0002: WORKLIST, 0x0700: 0}), WORKLIST_KEYS),
    Verb.GET: (GET, _rq(0x0010, {0x0002: GET, 0x0700: 0}), STUDY),
    Verb.MOVE: (MOVE, _rq(0x0021, {0x0002: MOVE, 0x0600: "NOWHERE ", 0x0700: 0}), STUDY),
    Verb.STORAGE_COMMITMENT: (
        COMMITMENT,
        _rq(0x0130, {0x0003: COMMITMENT, 0x1001: COMMITMENT_INSTANCE, 0x1008: 1}),
        TRANSACTION,
    ),
    Verb.STORAGE_COMMITMENT_REPORT: (
        COMMITMENT,
        _rq(0x0100, {0x0002: COMMITMENT, 0x1000: COMMITMENT_INSTANCE, 0x1002: 1}),
        TRANSACTION,
    ),
}


def _orthanc_allows(port: int, calling: str, verb: Verb) -> bool | None:
    """Whether Orthanc's SCP serves the request, whatever it answers; None if it rejects the association.

    What the peer may not do it answers with A-ABORT.
    """
    syntax, command, data_set = REQUESTS[verb]
    with RawPeer(port) as peer:
        try:
            assert peer.associate([Context(1, syntax)], calling=calling).results == {1: 0}
        except Rejected as rejected:
            assert rejected == Rejected(1, 1, 3)
            return None
        peer.message(1, command, data_set)
        return peer.read_pdu().type != A_ABORT


def _modality(aet: str, host: str = ADDRESS, **keys: bool) -> dict[str, Any]:
    return {"AET": aet, "Host": host, "Port": 104, **keys}


PERMISSIONS: Final = {
    "all": _modality("ALL"),
    "none": _modality("NONE", **OPTIONAL),
    **{verb.name: _modality(f"NOT{number}", **{verb.key: False}) for number, verb in enumerate(Verb)},
    "commitment": _modality("COMMITMENT", AllowStorageCommitment=False, AllowNAction=True),
    "spelling": _modality("SPELLING", AllowNEventReport=False),
    "array": ["ARRAY", ADDRESS, 104],
}

HOSTS: Final = {
    "here": _modality("HERE"),
    "away": _modality("AWAY", ELSEWHERE),
    "name": _modality("NAME", "localhost"),
    "1a": _modality("FIRST"),
    "1b": _modality("FIRST", ELSEWHERE, AllowStore=False),
    "2a": _modality("SECOND", ELSEWHERE, AllowStore=False),
    "2b": _modality("SECOND"),
    "3a": _modality("DENIED", AllowStore=False),
    "3b": _modality("DENIED", ELSEWHERE),
    "4a": _modality("BOTH", AllowStore=False),
    "4b": _modality("BOTH", AllowEcho=False),
    "5a": _modality("NEITHER", ELSEWHERE),
    "5b": _modality("NEITHER", "192.0.2.8"),
}

UNCHECKED, CHECKED = {"DicomCheckModalityHost": False}, {"DicomCheckModalityHost": True}

# With DicomCheckModalityHost and several entries of one AE title, Orthanc 1.10.1 compares only the first one's Host
# when it decides about the association, and serves what all of them allow wherever the peer is.
# docs/migration.md says so.
DIFFERENCES: Final = {
    ("hosts checked, strangers nothing", "SECOND", verb): (None, True) for verb in Verb
} | {
    ("hosts checked, strangers echo", "NEITHER", verb): (True, False) for verb in Verb if verb is not Verb.ECHO
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "options", "modalities"),
    [
        ("permissions, strangers nothing", NOBODY, PERMISSIONS),
        ("permissions, Orthanc's defaults", {}, PERMISSIONS),
        ("permissions, strangers query", {**NOBODY, "DicomAlwaysAllowFind": True}, PERMISSIONS),
        ("permissions, strangers retrieve", {**NOBODY, "DicomAlwaysAllowGet": True}, PERMISSIONS),
        ("hosts unchecked, strangers nothing", {**NOBODY, **UNCHECKED}, HOSTS),
        ("hosts checked, strangers nothing", {**NOBODY, **CHECKED}, HOSTS),
        ("hosts checked, strangers echo", {**NOBODY, **CHECKED, "DicomAlwaysAllowEcho": True}, HOSTS),
    ],
)
def test_every_verb_is_allowed_to_whom_orthanc_allows_it(
    make_orthanc: MakeOrthanc, tmp_path: Path, case: str, options: dict[str, bool], modalities: dict[str, Any]
) -> None:
    configuration = parse({**options, "DicomModalities": modalities}, Path("/"))
    ours = Admission(configuration.orthanc, configuration.orthanc.dicom_modalities)
    worklists = {"Enable": True, "Database": str(tmp_path)}
    server = make_orthanc(
        dicom_server=True, Plugins=[WORKLIST_PLUGIN], Worklists=worklists, **options, DicomModalities=modalities
    )
    server.start()
    titles = {modality.ae_title for modality in configuration.orthanc.dicom_modalities.values()}
    different = {}
    for calling in ["STRANGER", *sorted(titles)]:
        rejected = ours.reject(calling, "ORTHANC", ADDRESS) is not None
        permitted = ours.permitted(calling, ADDRESS)
        for verb in Verb:
            here = None if rejected else verb in permitted
            there = _orthanc_allows(server.dicom_port, calling, verb)
            if here != there:
                different[case, calling, verb] = (there, here)
    assert different == {key: value for key, value in DIFFERENCES.items() if key[0] == case}


@pytest.mark.parametrize("options", [{}, NOBODY, {**NOBODY, **CHECKED}, {**CHECKED, "DicomAlwaysAllowStore": False}])
def test_dcmtks_tools_are_served_by_the_gateway_if_they_are_by_orthanc(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway, tmp_path: Path, options: dict[str, bool]
) -> None:
    make_ct(tmp_path / "ct.dcm", 16, 16, seed=1)
    modalities = {
        "here": _modality("HERE"),
        "away": _modality("AWAY", ELSEWHERE),
        "no-store": _modality("NOSTORE", AllowStore=False),
        "no-echo": _modality("NOECHO", AllowEcho=False),
        "one": _modality("TWO", AllowStore=False),
        "two": _modality("TWO"),
    }
    common = {**options, "DicomModalities": modalities}
    built_in = make_orthanc(dicom_server=True, **common)
    gateway = make_gateway(**common, DicomGateway={"Workers": 1, "ModalitiesRefresh": 0})
    built_in.start()
    gateway.start()
    for calling in ("STRANGER", "HERE", "here", "AWAY", "NOSTORE", "NOECHO", "TWO"):
        served = []
        for server in (built_in, gateway):
            echo = echoscu(server.dicom_port, calling=calling)
            # DCMTK's exit status is 0 after an abort.
            echoed = "Received Echo Response (Success)" in echo.stdout + echo.stderr
            stored = storescu(server.dicom_port, [tmp_path / "ct.dcm"], calling=calling).returncode == 0
            served.append((echoed, stored))
        assert served[0] == served[1], calling
