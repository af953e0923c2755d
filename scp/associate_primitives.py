"""The A-ASSOCIATE primitives (PS3.8 7.1.1) as pynetdicom's state machine and services know them.

Verification and storage look at the decoded request only, so the objects that pynetdicom makes of its presentation
contexts and user information are made when one of pynetdicom's services asks for them.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from scp.associate_request import AssociateRequest, ProposedContext, Role, UserIdentity

# PS3.8 table 9-11: of the protocol version only bit 0 shall be tested. The state machine compares the whole field.
VERSION_1: Final = 0x0001


class AssociateIndication(A_ASSOCIATE):
    """The primitive of a received `request`. To the state machine also the PDU that it comes from (AE-6)."""

    def __init__(self, request: AssociateRequest) -> None:
        super().__init__()
        self.request = request
        self._called_ae_title = request.called_ae_title
        self._calling_ae_title = request.calling_ae_title

    @property
    def protocol_version(self) -> int:
        """1 if the peer supports it."""
        version = self.request.protocol_version
        return VERSION_1 if version & VERSION_1 else version

    def to_primitive(self) -> "AssociateIndication":
        """See the class."""
        return self

    @cached_property
    def presentation_context_definition_list(self) -> list[PresentationContext]:
        """The proposed contexts."""
        return [_context(proposed) for proposed in self.request.contexts]

    @cached_property
    def user_information(self) -> list[Any]:
        """What the peer says of itself, and what it wants to negotiate."""
        request = self.request
        length = MaximumLengthNotification()
        length.maximum_length_received = request.maximum_length
        implementation = ImplementationClassUIDNotification()
        implementation.implementation_class_uid = request.implementation_class_uid
        items: list[Any] = [length, implementation, *_role_selections(request.roles)]
        if request.implementation_version_name:
            version = ImplementationVersionNameNotification()
            version.implementation_version_name = request.implementation_version_name
            items.append(version)
        for uid, information in request.sop_class_extended.items():
            extended = SOPClassExtendedNegotiation()
            extended.sop_class_uid, extended.service_class_application_information = uid, information
            items.append(extended)
        if request.user_identity is not None:
            items.append(_user_identity(request.user_identity))
        return items


def associate_response(
    contexts: list[PresentationContext], user_information: list[Any], roles: Mapping[str, Role]
) -> A_ASSOCIATE:
    """The primitive of the A-ASSOCIATE-AC: the outcome of the negotiation, and what we say of ourselves."""
    primitive = A_ASSOCIATE()
    primitive.result = 0x00
    primitive.result_source = 0x01
    primitive.presentation_context_definition_results_list = contexts
    primitive.user_information = [*user_information, *_role_selections(roles)]
    return primitive


def _role_selections(roles: Mapping[str, Role]) -> list[SCP_SCU_RoleSelectionNegotiation]:
    items = []
    for uid, role in roles.items():
        item = SCP_SCU_RoleSelectionNegotiation()
        item.sop_class_uid, item.scu_role, item.scp_role = uid, role.scu, role.scp
        items.append(item)
    return items


def _context(proposed: ProposedContext) -> PresentationContext:
    context = PresentationContext()
    context.context_id = proposed.context_id
    context.abstract_syntax = proposed.abstract_syntax
    # Not by its property, which refuses what is too long to be a UID.
    context._transfer_syntax = [UID(name) for name in proposed.transfer_syntaxes]
    return context


def _user_identity(identity: UserIdentity) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    # Not by its property, which refuses types that it does not know.
    item._user_identity_type = identity.type
    item.positive_response_requested = identity.response_requested
    item.primary_field = identity.primary
    item.secondary_field = identity.secondary
    return item
