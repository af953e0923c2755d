"""Which of the proposed presentation contexts are accepted, and in which roles (PS3.8 9.3.3.2, PS3.7 D.3.3.4).

Decides as pynetdicom's `negotiate_as_acceptor` does, whose table of roles it uses, without checking each UID by regular
expressions, and tells contexts that the peer may not use from those that do not exist here.
"""

from functools import lru_cache
from typing import Final

from pydicom.uid import UID
from pynetdicom.presentation import SCP_SCU_ROLES, PresentationContext

from scp.associate_request import AssociateRequest, ProposedContext, Role
from scp.contexts import Offer

# Result/reason of a presentation context, PS3.8 table 9-18.
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

# Of SCP_SCU_ROLES' outcomes: what the acceptor is.
_AS_SCU: Final = 2
_AS_SCP: Final = 3


def negotiate(request: AssociateRequest, offer: Offer) -> tuple[list[PresentationContext], dict[str, Role]]:
    """Return all proposed contexts in their order, with results, and the answers to role selection by SOP class UID.

    Of the transfer syntaxes that a context proposes, the first one in the offer's list is taken. Where the offer says
    nothing about roles (`scu_role`, `scp_role`), the default ones hold and role selection is not answered.
    """
    supported = {str(context.abstract_syntax): context for context in offer.supported}
    contexts: list[PresentationContext] = []
    answers: dict[str, Role] = {}
    for proposed in request.contexts:
        ours = supported.get(proposed.abstract_syntax)
        if ours is None:
            forbidden = proposed.abstract_syntax in offer.forbidden
            contexts.append(_refused(proposed, USER_REJECTION if forbidden else ABSTRACT_SYNTAX_NOT_SUPPORTED))
            continue
        wanted = frozenset(proposed.transfer_syntaxes)
        chosen = next((syntax for syntax in ours.transfer_syntax if syntax in wanted), None)
        if chosen is None:
            contexts.append(_refused(proposed, TRANSFER_SYNTAXES_NOT_SUPPORTED))
            continue
        requested = request.roles.get(proposed.abstract_syntax)
        as_scu, as_scp = _roles(requested, ours, default_is_both=offer.default_is_both)
        if not as_scu and not as_scp:
            contexts.append(_refused(proposed, USER_REJECTION))
            continue
        contexts.append(_accepted(proposed.context_id, ours.abstract_syntax, chosen, as_scu, as_scp))
        if requested is not None and ours.scu_role is not None and ours.scp_role is not None:
            answers[proposed.abstract_syntax] = Role(
                scu=requested.scu and ours.scu_role, scp=requested.scp and ours.scp_role
            )
    return contexts, answers


def _roles(requested: Role | None, ours: PresentationContext, *, default_is_both: bool) -> tuple[bool, bool]:
    """Return whether we act as SCU, and as SCP."""
    if ours.scu_role is None or ours.scp_role is None:
        return False, True
    if requested is None and default_is_both:
        return True, True
    outcome = SCP_SCU_ROLES[requested or (None, None)][ours.scu_role, ours.scp_role]
    return outcome[_AS_SCU], outcome[_AS_SCP]


@lru_cache(maxsize=4096)
def _accepted(
    context_id: int, abstract_syntax: UID | None, transfer_syntax: UID, as_scu: bool, as_scp: bool
) -> PresentationContext:
    """Shared by associations, which only read it."""
    return _context(context_id, abstract_syntax, transfer_syntax, ACCEPTANCE, as_scu, as_scp)


def _refused(proposed: ProposedContext, result: int) -> PresentationContext:
    """Its transfer syntax is not significant, but there must be one (PS3.8 9.3.3.2)."""
    return _context(
        proposed.context_id, UID(proposed.abstract_syntax), UID(proposed.transfer_syntaxes[0]), result, False, False
    )


def _context(
    context_id: int, abstract_syntax: UID | None, transfer_syntax: UID, result: int, as_scu: bool, as_scp: bool
) -> PresentationContext:
    context = PresentationContext()
    # Not by its properties: they check what was checked already, for as long as all the rest takes.
    context._context_id = context_id
    context._abstract_syntax = abstract_syntax
    context._transfer_syntax = [transfer_syntax]
    context.result = result
    context._as_scu = as_scu
    context._as_scp = as_scp
    return context
