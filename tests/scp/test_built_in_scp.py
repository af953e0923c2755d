"""What is accepted, against Orthanc's built-in SCP that the gateway replaces."""

import random
import re
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Final

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import RE_VALID_UID
from pynetdicom import sop_class

from gateway.dicom.transfer_syntaxes import PREFERENCE
from tests.conftest import MakeOrthanc
from tests.scp.conftest import StartGateway
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.mpps import MPPS
from tests.support.orthanc import Orthanc
from tests.support.rawdicom import CT_IMAGE, VERIFICATION, Context, RawPeer
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

CONTEXTS_PER_ASSOCIATION: Final = 100

MAXIMUM_UID_CHARACTERS: Final = 64  # PS3.5 9.1

# Orthanc offers worklist queries with this plugin only.
WORKLIST_PLUGIN: Final = "/usr/share/orthanc/plugins/libModalityWorklists.so"

# Encapsulated Uncompressed, HTJ2K, SMPTE ST 2110, RFC 2557, XML, private.
NOT_ACCEPTED: Final = (
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.6.1",
    "1.2.840.10008.1.2.6.2",
    "1.2.840.99999.1",
)

NEWER: Final = {str(uid) for uid in sop_class._STORAGE_CLASSES.values()}


def _known_uids() -> list[str]:
    """Every UID of PS3.6, of pynetdicom's storage classes, and in the library of DCMTK, which is in Orthanc."""
    library = next(Path("/usr/lib").glob("*/libdcmdata.so.*"))
    of_dcmtk = {match.decode() for match in re.findall(rb"\b\d+(?:\.\d+){4,}\b", library.read_bytes())}
    return sorted(uid for uid in of_dcmtk | set(UID_dictionary) | NEWER if _is_uid(uid))


def _is_uid(text: str) -> bool:
    return len(text) <= MAXIMUM_UID_CHARACTERS and re.fullmatch(RE_VALID_UID, text) is not None


def _accepted(port: int, uids: Iterable[str]) -> set[str]:
    wanted, accepted = list(uids), set()
    while wanted:
        asked, wanted = wanted[:CONTEXTS_PER_ASSOCIATION], wanted[CONTEXTS_PER_ASSOCIATION:]
        with RawPeer(port) as peer:
            contexts = [Context(2 * n + 1, uid, (IMPLICIT, EXPLICIT)) for n, uid in enumerate(asked)]
            answer = peer.associate(contexts)
            accepted |= {context.abstract_syntax for context in contexts if answer.results[context.id] == 0}
            peer.release()
    return accepted


@pytest.fixture
def built_in(make_orthanc: MakeOrthanc, tmp_path: Path) -> Orthanc:
    worklists = {"Enable": True, "Database": str(tmp_path)}
    server = make_orthanc(dicom_server=True, Plugins=[WORKLIST_PLUGIN], Worklists=worklists)
    server.start()
    return server


def test_storage_classes_are_those_of_the_built_in_scp_and_the_newer_ones_of_pynetdicom(
    built_in: Orthanc, start_gateway: StartGateway
) -> None:
    permitted = {f"DicomAlwaysAllow{verb}": True for verb in ("Find", "FindWorklist", "Get", "Move")}
    uids, gateway = (
        _known_uids(),
        start_gateway(**permitted, Worklists={"Enable": True}, DicomModalities={"raw": ["RAW", "127.0.0.1", 104]}),
    )
    theirs, ours = _accepted(built_in.dicom_port, uids), _accepted(gateway.dicom_port, uids)
    assert len(theirs) > 100
    assert theirs - ours == set()
    assert ours - theirs - NEWER == {MPPS}  # Orthanc has none
    assert ours >= NEWER | {VERIFICATION}


def _chosen(port: int, proposals: Sequence[Sequence[str]]) -> list[str | None]:
    """The transfer syntax that is chosen of each proposal, None where the context is not accepted."""
    chosen: list[str | None] = []
    for start in range(0, len(proposals), CONTEXTS_PER_ASSOCIATION):
        part = proposals[start : start + CONTEXTS_PER_ASSOCIATION]
        contexts = [Context(2 * n + 1, CT_IMAGE, syntaxes) for n, syntaxes in enumerate(part)]
        with RawPeer(port) as peer:
            answer = peer.associate(contexts)
            peer.release()
        chosen += [answer.transfer_syntaxes[c.id] if answer.results[c.id] == 0 else None for c in contexts]
    return chosen


def test_transfer_syntaxes_are_accepted_and_preferred_as_by_the_built_in_scp(
    built_in: Orthanc, gateway: Gateway
) -> None:
    """One by one, in pairs in both orders, and in larger random sets."""
    known = (*PREFERENCE, *NOT_ACCEPTED)
    dice = random.Random(1)
    proposals: list[Sequence[str]] = [(syntax,) for syntax in known]
    proposals += dice.sample(list(permutations(known, 2)), 300)
    proposals += [dice.sample(known, dice.randint(3, 12)) for _ in range(200)]
    assert _chosen(gateway.dicom_port, proposals) == _chosen(built_in.dicom_port, proposals)
