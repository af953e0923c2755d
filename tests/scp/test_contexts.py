"""Which service an abstract syntax is for, and what becomes of it with and without permission."""

import pytest

from gateway.admission import OFFERED, Verb
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
def test_service_that_is_offered_is_for_those_who_may_use_it(
    policy: ContextPolicy, monkeypatch: pytest.MonkeyPatch, uid: str, verb: Verb
) -> None:
    monkeypatch.setattr("scp.contexts.OFFERED", frozenset(Verb))
    (context,) = policy.offer({verb}, [uid]).supported
    assert (context.abstract_syntax, tuple(context.transfer_syntax)) == (uid, UNCOMPRESSED)
    offer = policy.offer(frozenset(Verb) - {verb}, [uid])
    assert (offer.supported, offer.forbidden) == ([], {uid: verb})


def test_storage_has_every_transfer_syntax(policy: ContextPolicy) -> None:
    (context,) = policy.offer({Verb.STORE}, [CT_IMAGE]).supported
    assert tuple(context.transfer_syntax) == PREFERENCE


def test_every_verb_with_a_context_of_its_own_has_one() -> None:
    # Reports of storage commitment come on the context of their requests (PS3.4 J.3.3).
    assert set(SERVICES.values()) == set(Verb) - {Verb.STORE, Verb.STORAGE_COMMITMENT_REPORT}
    assert not SERVICES.keys() & STORAGE_CLASSES
