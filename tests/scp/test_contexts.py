"""Which service an abstract syntax is for, and what becomes of it with and without permission."""

from pathlib import Path
from typing import Any

import pytest

from gateway.admission import OFFERED, Verb, offered
from gateway.config import parse
from gateway.transfer_syntaxes import PREFERENCE, UNCOMPRESSED
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
    offer = policy.offer(frozenset(Verb) - {verb}, [uid])
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
    assert services == (OFFERED if is_on else OFFERED - {Verb.FIND_WORKLIST})
    policy = ContextPolicy(PREFERENCE, unknown_sop_class_accepted=True, offered=services)
    assert policy.verb("1.2.840.10008.5.1.4.31") is (Verb.FIND_WORKLIST if is_on else None)


def test_storage_has_every_transfer_syntax(policy: ContextPolicy) -> None:
    (context,) = policy.offer({Verb.STORE}, [CT_IMAGE]).supported
    assert tuple(context.transfer_syntax) == PREFERENCE


def test_every_verb_with_a_context_of_its_own_has_one() -> None:
    # Reports of storage commitment come on the context of their requests (PS3.4 J.3.3).
    assert set(SERVICES.values()) == set(Verb) - {Verb.STORE, Verb.STORAGE_COMMITMENT_REPORT}
    assert not SERVICES.keys() & STORAGE_CLASSES
