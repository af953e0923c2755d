"""The codecs of A-ASSOCIATE-RQ and -AC and the negotiation between them, against pynetdicom's own."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.access.admission import Verb
from scp import associate_accept, associate_request
from scp.associate_request import AssociateRequest, ProposedContext, Role
from scp.contexts import Offer
from scp.negotiation import ACCEPTANCE, USER_REJECTION, negotiate
from tests.scp.associate_requests import (
    APPLICATION_CONTEXT,
    FIXED_BYTES,
    PDU_HEADER_BYTES,
    body_of,
    encoded,
    flags,
    proposals,
    pynetdicom_as_in_a_worker,
    requests,
    roles,
    titles,
)
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, VERIFICATION, Context, associate_rq

thorough = settings(deadline=None, max_examples=200)


@pytest.fixture(scope="module", autouse=True)
def _as_in_a_worker() -> Iterator[None]:
    with pynetdicom_as_in_a_worker():
        yield


def _fields(request: AssociateRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in AssociateRequest.__slots__ if name != "repeated"}


@thorough
@given(requests)
def test_request_encoded_by_pynetdicom_is_decoded_to_what_it_was(request: AssociateRequest) -> None:
    body = body_of(encoded(request))
    assert _fields(associate_request.decode(body)) == _fields(request)


@thorough
@given(proposals(), titles, titles, st.integers(0, 0xFFFFFFFF))
def test_request_written_by_hand_is_decoded_as_pynetdicom_does(
    proposed: list[ProposedContext], called: str, calling: str, maximum_length: int
) -> None:
    contexts = [Context(*context) for context in proposed]
    written = associate_rq(contexts, called=called, calling=calling, maximum_pdu_bytes=maximum_length)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(written)
    ours = associate_request.decode(body_of(written))
    assert (ours.called_ae_title, ours.calling_ae_title) == (theirs.called_ae_title, theirs.calling_ae_title)
    assert ours.maximum_length == theirs.user_information.maximum_length == maximum_length
    assert ours.contexts == tuple(
        ProposedContext(item.context_id, str(item.abstract_syntax), tuple(map(str, item.transfer_syntax)))
        for item in theirs.presentation_context
    )


transfer_syntaxes = st.sampled_from([EXPLICIT, IMPLICIT, "1.2.3.5", "1.2.3.6"])
offers = st.lists(
    st.tuples(
        st.sampled_from([CT_IMAGE, MR_IMAGE, VERIFICATION, "1.2.3.4"]),
        st.lists(transfer_syntaxes, min_size=1, unique=True),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, True, False]),
    ),
    unique_by=lambda supported: supported[0],
)


def _supported(uid: str, syntaxes: list[str], scu_role: bool | None, scp_role: bool | None) -> PresentationContext:
    context = build_context(uid, syntaxes)  # type: ignore[arg-type]
    context.scu_role, context.scp_role = scu_role, scp_role
    return context


def _proposed(proposed: ProposedContext) -> PresentationContext:
    context = build_context(proposed.abstract_syntax, list(proposed.transfer_syntaxes))
    context.context_id = proposed.context_id
    return context


@thorough
@given(
    st.lists(st.sampled_from([CT_IMAGE, MR_IMAGE, VERIFICATION, "1.2.3.4", "1.2.3.7"]), max_size=20),
    st.lists(
        st.lists(st.sampled_from([EXPLICIT, IMPLICIT, "1.2.3.5", "1.2.3.6"]), min_size=1, unique=True), min_size=1
    ),
    st.dictionaries(st.sampled_from([CT_IMAGE, MR_IMAGE, "1.2.3.4"]), st.builds(Role, scu=flags, scp=flags)),
    offers,
)
def test_contexts_and_roles_are_negotiated_as_pynetdicom_does(
    abstract_syntaxes: list[str],
    proposed_syntaxes: list[list[str]],
    requested: dict[str, Role],
    offered: list[tuple[str, list[str], bool | None, bool | None]],
) -> None:
    proposed = tuple(
        ProposedContext(2 * n + 1, uid, tuple(proposed_syntaxes[n % len(proposed_syntaxes)]))
        for n, uid in enumerate(abstract_syntaxes)
    )
    request = AssociateRequest(1, "A", "B", b"", proposed, roles=requested)
    supported = [_supported(*each) for each in offered]
    contexts, answers = negotiate(request, Offer(supported))
    expected, expected_answers = negotiate_as_acceptor(
        [_proposed(each) for each in proposed],
        supported,
        {uid: tuple(role) for uid, role in requested.items()},  # type: ignore[misc]
    )
    assert [_outcome(context) for context in contexts] == [_outcome(context) for context in expected]
    assert answers == {item.sop_class_uid: Role(item.scu_role, item.scp_role) for item in expected_answers}


def _outcome(context: PresentationContext) -> tuple[Any, ...]:
    accepted = context.result == ACCEPTANCE
    roles_of_ours = (context.as_scu, context.as_scp) if accepted else None
    syntaxes = context.transfer_syntax if accepted else None
    return context.context_id, context.abstract_syntax, context.result, syntaxes, roles_of_ours


def test_what_is_forbidden_is_refused_by_the_user_and_not_as_unknown() -> None:
    proposed = (ProposedContext(1, CT_IMAGE, (EXPLICIT,)), ProposedContext(3, VERIFICATION, (IMPLICIT,)))
    request = AssociateRequest(1, "A", "B", b"", proposed)
    contexts, _ = negotiate(request, Offer([build_context(VERIFICATION, IMPLICIT)], {CT_IMAGE: Verb.STORE}))
    assert [context.result for context in contexts] == [USER_REJECTION, ACCEPTANCE]


@thorough
@given(requests, st.integers(0, 0xFFFFFFFF), roles, st.none() | st.binary(max_size=100))
def test_pynetdicom_decodes_an_acceptance_to_what_was_negotiated(
    request: AssociateRequest, maximum_length: int, answers: dict[str, Role], identity_response: bytes | None
) -> None:
    body = body_of(encoded(request))
    decoded = associate_request.decode(body)
    contexts, _ = negotiate(decoded, Offer([build_context(CT_IMAGE, [IMPLICIT, EXPLICIT])], {MR_IMAGE: Verb.STORE}))
    answer = associate_accept.encode(
        decoded.repeated, contexts, maximum_length, roles=answers, identity_response=identity_response
    )
    assert struct.unpack_from(">BxL", answer) == (2, len(answer) - PDU_HEADER_BYTES)
    acceptance = A_ASSOCIATE_AC()
    acceptance.decode(answer)
    assert acceptance.protocol_version == 1
    assert acceptance.application_context_name == APPLICATION_CONTEXT
    assert [(item.context_id, item.result, item.transfer_syntax) for item in acceptance.presentation_context] == [
        (context.context_id, context.result, context.transfer_syntax[0]) for context in contexts
    ]
    information = acceptance.user_information
    assert information is not None
    assert information.maximum_length == maximum_length
    assert information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert information.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    assert {uid: (item.scu, item.scp) for uid, item in information.role_selection.items()} == answers
    response = information.user_identity
    assert (response and response.server_response) == identity_response


def test_acceptance_repeats_the_titles_and_reserved_bytes_of_the_request() -> None:
    """PS3.8 table 9-17: identical to what was received, whatever it is."""
    body = bytearray(body_of(associate_rq([Context(1)], called=b"\xff\0 x", calling=b"  b")))
    body[36:FIXED_BYTES] = bytes(range(32))
    decoded = associate_request.decode(bytes(body))
    answer = associate_accept.encode(decoded.repeated, [], 16384, roles={})
    assert body_of(answer)[4:FIXED_BYTES] == body[4:FIXED_BYTES]
