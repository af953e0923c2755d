"""Which service an abstract syntax is for, and what becomes of it with and without permission."""

from pathlib import Path
from typing import Any

import pytest

from gateway.access.admission import OFFERED, Verb, offered
from gateway.dicom.transfer_syntaxes import PREFERENCE, UNCOMPRESSED
from gateway.options.config import parse
from scp.contexts import SERVICES, STORAGE_CLASSES, ContextPolicy
from tests.support.rawdicom import CT_IMAGE


@pytest.fixture
def policy() -> ContextPolicy:
    return ContextPolicy(PREFERENCE, unknown_sop_class_accepted=True)


@pytest.mark.parametrize(("uid", "verb"), SERVICES.items())
def test_service_that_does_not_exist_here_is_not_forbidden_but_unsupported(
    policy: ContextPolicy, uid: str, verb: Verb
) -> None:
    for permitted in (frozenset(Verb), frozenset[Verb]()):
        offer = policy.offer(permitted, [uid])
        assert [context.abstract_syntax for context in offer.supported] == [uid] * (verb in OFFERED & permitted)
        assert offer.forbidden == ({uid: verb} if verb in OFFERED - permitted else {})


@pytest.mark.parametrize(("uid", "verb"), SERVICES.items())
def test_service_that_is_offered_is_for_those_who_may_use_it(uid: str, verb: Verb) -> None:
    policy = ContextPolicy(PREFERENCE, unknown_sop_class_accepted=True, offered=frozenset(Verb))
    (context,) = policy.offer({verb}, [uid]).supported
    assert (context.abstract_syntax, tuple(context.transfer_syntax)) == (uid, UNCOMPRESSED)
    # Who may report commitments to Orthanc's requests uses the class in the other role.
    offer = policy.offer(frozenset(Verb) - {verb, Verb.STORAGE_COMMITMENT_REPORT}, [uid])
    assert (offer.supported, offer.forbidden) == ([], {uid: verb})


@pytest.mark.parametrize(
    ("content", "is_on"),
    [
        ({}, False),
        ({"DicomGateway": {"Worklist": {}}}, True),
        ({"Worklists": {"Enable": True, "Database": "x"}}, True),
        ({"Worklists": {"Enable": False, "Database": "x"}}, False),
    ],
)
def test_the_worklist_is_offered_where_something_fills_it(content: dict[str, Any], is_on: bool) -> None:
    services = offered(parse(content, Path("/")))
    assert (Verb.FIND_WORKLIST in services) is is_on
    policy = ContextPolicy(PREFERENCE, unknown_sop_class_accepted=True, offered=services)
    assert policy.verb("1.2.840.10008.5.1.4.31") is (Verb.FIND_WORKLIST if is_on else None)


COMMITMENT = frozenset({Verb.STORAGE_COMMITMENT, Verb.STORAGE_COMMITMENT_REPORT})
PEER = {"AET": "MODALITY", "Host": "192.0.2.1", "Port": 104}


@pytest.mark.parametrize(
    ("content", "is_on"),
    [
        ({}, False),
        ({"DicomModalities": {"m": PEER}}, True),
        ({"DicomModalities": {"m": {**PEER, "AllowNAction": False}}}, True),
        ({"DicomModalities": {"m": {**PEER, "AllowStorageCommitment": False}}}, False),
        ({"DicomModalitiesInDatabase": True}, True),
        ({"DicomGateway": {"StorageCommitment": {"Enable": True}}}, True),
        ({"DicomModalities": {"m": PEER}, "DicomGateway": {"StorageCommitment": {"Enable": False}}}, False),
    ],
)
def test_storage_commitment_is_offered_where_somebody_may_use_it(content: dict[str, Any], is_on: bool) -> None:
    configuration = parse(content, Path("/"))
    assert offered(configuration) & COMMITMENT == (COMMITMENT if is_on else frozenset())
    assert configuration.needs_database is is_on


def test_storage_has_every_transfer_syntax(policy: ContextPolicy) -> None:
    (context,) = policy.offer({Verb.STORE}, [CT_IMAGE]).supported
    assert tuple(context.transfer_syntax) == PREFERENCE


def test_every_verb_with_a_context_of_its_own_has_one() -> None:
    # Reports of storage commitment come on the context of their requests (PS3.4 J.3.3).
    assert set(SERVICES.values()) == set(Verb) - {Verb.STORE, Verb.STORAGE_COMMITMENT_REPORT}
    assert not SERVICES.keys() & STORAGE_CLASSES
