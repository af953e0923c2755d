"""A-ASSOCIATE-RQs made at random, as scp decodes them and as pynetdicom encodes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pydicom.config
import pytest
from hypothesis import strategies as st
from pynetdicom import _config
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context, build_role

from scp.associate_request import AssociateRequest, ProposedContext, Role, UserIdentity
from scp.environment import configure_pynetdicom
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, VERIFICATION

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
PDU_HEADER_BYTES: Final = 6
FIXED_BYTES: Final = 68  # of the PDU behind its header, PS3.8 table 9-11

uids = st.lists(st.integers(0, 99999).map(str), min_size=2, max_size=8).map(lambda parts: "1.2." + ".".join(parts))
titles = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=16)
context_ids = st.lists(st.integers(0, 127).map(lambda n: 2 * n + 1), unique=True, max_size=128)
flags = st.booleans()


@st.composite
def proposals(draw: st.DrawFn) -> list[ProposedContext]:
    some = draw(st.lists(uids, min_size=1, max_size=5, unique=True))
    abstract_syntaxes = st.sampled_from([CT_IMAGE, MR_IMAGE, VERIFICATION, *some])
    syntaxes = st.lists(st.sampled_from([EXPLICIT, IMPLICIT, *some]), min_size=1, max_size=6, unique=True).map(tuple)
    return [ProposedContext(context_id, draw(abstract_syntaxes), draw(syntaxes)) for context_id in draw(context_ids)]


user_identities = st.builds(
    UserIdentity,
    type=st.integers(1, 5),
    response_requested=flags,
    primary=st.binary(min_size=1, max_size=50),
    secondary=st.binary(min_size=1, max_size=50),
)
# pynetdicom does not encode a role selection of no role at all.
roles = st.dictionaries(uids, st.builds(Role, scu=flags, scp=flags).filter(any), max_size=5)
requests = st.builds(
    AssociateRequest,
    protocol_version=st.just(1),
    called_ae_title=titles,
    calling_ae_title=titles,
    repeated=st.just(b""),
    contexts=proposals().map(tuple),
    maximum_length=st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=uids,
    implementation_version_name=titles,
    roles=roles,
    sop_class_extended=st.dictionaries(uids, st.binary(max_size=20), max_size=3),
    user_identity=st.none() | user_identities,
)


def encoded(request: AssociateRequest) -> bytes:
    """The PDU as pynetdicom's requestor would send it."""
    return A_ASSOCIATE_RQ(_primitive(request)).encode()


def _primitive(request: AssociateRequest) -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.called_ae_title, primitive.calling_ae_title = request.called_ae_title, request.calling_ae_title
    for proposed in request.contexts:
        context = build_context(proposed.abstract_syntax, list(proposed.transfer_syntaxes))
        context.context_id = proposed.context_id
        primitive.presentation_context_definition_list.append(context)
    primitive.user_information = list(_user_information(request))
    return primitive


def _user_information(request: AssociateRequest) -> Iterator[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = request.maximum_length
    yield length
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = request.implementation_class_uid
    yield implementation
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = request.implementation_version_name
    yield version
    for uid, role in request.roles.items():
        yield build_role(uid, scu_role=role.scu, scp_role=role.scp)
    for uid, information in request.sop_class_extended.items():
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid, extended.service_class_application_information = uid, information
        yield extended
    if request.user_identity is not None:
        identity = UserIdentityNegotiation()
        identity.user_identity_type = request.user_identity.type
        identity.positive_response_requested = request.user_identity.response_requested
        identity.primary_field, identity.secondary_field = (
            request.user_identity.primary,
            request.user_identity.secondary,
        )
        yield identity


def body_of(pdu: bytes) -> bytes:
    """What scp.associate_request decodes: the PDU behind its header."""
    return pdu[PDU_HEADER_BYTES:]


@contextmanager
def pynetdicom_as_in_a_worker() -> Iterator[None]:
    """pynetdicom's and pydicom's settings are those of the process, which other tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.WARN)
        for name in ("LOG_HANDLER_LEVEL", "LOG_REQUEST_IDENTIFIERS", "LOG_RESPONSE_IDENTIFIERS", "CODECS"):
            patch.setattr(_config, name, getattr(_config, name))
        patch.setattr(_config, "VALIDATORS", dict(_config.VALIDATORS))
        configure_pynetdicom()
        yield
