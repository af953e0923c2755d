"""Which presentation contexts (PS3.8 9.3.2.2) are accepted: SOP classes, transfer syntaxes, permissions."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import _STORAGE_CLASSES

from gateway.access.admission import OFFERED, Verb
from gateway.dicom.transfer_syntaxes import UNCOMPRESSED
from scp.associate_request import Role

NO_ROLES: Final[Mapping[str, Role]] = {}

VERIFICATION: Final = "1.2.840.10008.1.1"

# Which service an abstract syntax is for, besides storage. Orthanc 1.10.1 has all of these but MPPS; those whose
# verb is offered (gateway.access.admission) are served here.
SERVICES: Final[Mapping[str, Verb]] = {
    VERIFICATION: Verb.ECHO,
    "1.2.840.10008.5.1.4.1.2.1.1": Verb.FIND,  # Patient Root Query/Retrieve - FIND
    "1.2.840.10008.5.1.4.1.2.2.1": Verb.FIND,  # Study Root Query/Retrieve - FIND
    "1.2.840.10008.5.1.4.31": Verb.FIND_WORKLIST,  # Modality Worklist - FIND
    # Who asks what to do may say what it did; Orthanc has no permission of its own for it.
    "1.2.840.10008.3.1.2.3.3": Verb.FIND_WORKLIST,  # Modality Performed Procedure Step
    "1.2.840.10008.5.1.4.1.2.1.2": Verb.MOVE,  # Patient Root Query/Retrieve - MOVE
    "1.2.840.10008.5.1.4.1.2.2.2": Verb.MOVE,  # Study Root Query/Retrieve - MOVE
    "1.2.840.10008.5.1.4.1.2.1.3": Verb.GET,  # Patient Root Query/Retrieve - GET
    "1.2.840.10008.5.1.4.1.2.2.3": Verb.GET,  # Study Root Query/Retrieve - GET
    "1.2.840.10008.1.20.1": Verb.STORAGE_COMMITMENT,  # Storage Commitment Push Model
}
# PS3.5 9.1. What is longer is no SOP class, and not kept in memory as one.
MAXIMUM_UID_CHARACTERS: Final = 64

# Retired or foreign storage classes that the built-in SCP of Orthanc 1.10.1 accepts (it was asked) and
# pynetdicom does not list.
_MORE_STORAGE_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.1.27",  # Stored Print
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image
        "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image (retired)
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image (retired)
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image (retired)
        "1.2.840.10008.5.1.4.1.1.8",  # Standalone Overlay
        "1.2.840.10008.5.1.4.1.1.9",  # Standalone Curve
        "1.2.840.10008.5.1.4.1.1.9.1",  # Waveform (trial)
        "1.2.840.10008.5.1.4.1.1.10",  # Standalone Modality LUT
        "1.2.840.10008.5.1.4.1.1.11",  # Standalone VOI LUT
        "1.2.840.10008.5.1.4.1.1.12.3",  # X-Ray Angiographic Bi-Plane Image
        "1.2.840.10008.5.1.4.1.1.77.1",  # VL Image (trial)
        "1.2.840.10008.5.1.4.1.1.77.2",  # VL Multi-frame Image (trial)
        "1.2.840.10008.5.1.4.1.1.88.1",  # Text SR (trial)
        "1.2.840.10008.5.1.4.1.1.88.2",  # Audio SR (trial)
        "1.2.840.10008.5.1.4.1.1.88.3",  # Detail SR (trial)
        "1.2.840.10008.5.1.4.1.1.88.4",  # Comprehensive SR (trial)
        "1.2.840.10008.5.1.4.1.1.129",  # Standalone PET Curve
        "1.2.840.10008.5.1.4.1.1.501.1",  # DICOS CT Image
        "1.2.840.10008.5.1.4.1.1.501.2.1",  # DICOS Digital X-Ray Image, for presentation
        "1.2.840.10008.5.1.4.1.1.501.2.2",  # DICOS Digital X-Ray Image, for processing
        "1.2.840.10008.5.1.4.1.1.501.3",  # DICOS Threat Detection Report
        "1.2.840.10008.5.1.4.1.1.501.4",  # DICOS 2D AIT
        "1.2.840.10008.5.1.4.1.1.501.5",  # DICOS 3D AIT
        "1.2.840.10008.5.1.4.1.1.501.6",  # DICOS Quadrupole Resonance
        "1.2.840.10008.5.1.4.1.1.601.1",  # DICONDE Eddy Current Image
        "1.2.840.10008.5.1.4.1.1.601.2",  # DICONDE Eddy Current Multi-frame Image
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction (trial)
    }
)

STORAGE_CLASSES: Final = frozenset(map(str, _STORAGE_CLASSES.values())) | _MORE_STORAGE_CLASSES


@dataclass(frozen=True)
class Offer:
    """What the gateway supports of what one peer proposes."""

    supported: list[PresentationContext]
    # Abstract syntaxes that exist here but are not for this peer: Result 1, user-rejection.
    forbidden: dict[str, Verb] = field(default_factory=dict)
    # Who asks for C-GET and proposes no roles gets instances all the same (Ginkgo CADx; Orthanc's server does so too).
    default_is_both: bool = False


class ContextPolicy:
    """Decides about abstract syntaxes, for all associations of a worker."""

    def __init__(
        self,
        transfer_syntaxes: tuple[str, ...],
        *,
        unknown_sop_class_accepted: bool,
        offered: frozenset[Verb] = OFFERED,
    ) -> None:
        """`offered`: the services that there are; what is for others is not supported, whoever asks."""
        self._storage_syntaxes = transfer_syntaxes
        self._offered = offered
        self._unknown_sop_class_accepted = unknown_sop_class_accepted

    def offer(
        self, permitted: Set[Verb], abstract_syntaxes: Iterable[str], roles: Mapping[str, Role] = NO_ROLES
    ) -> Offer:
        """Return what of the proposed `abstract_syntaxes` a peer may use that may do what is `permitted`.

        Who may retrieve by C-GET may be SCP of storage classes, by the proposed `roles`. Storage commitment has two
        verbs in one class: SCUs ask, SCPs report (PS3.4 J.3.1).
        """
        supported, forbidden = [], {}
        for uid in dict.fromkeys(map(str, abstract_syntaxes)):
            verb = self.verb(uid)
            if verb is None:
                continue
            context = self._context_of(uid, verb, permitted, roles.get(uid))
            if context is None:
                forbidden[uid] = verb
            else:
                supported.append(context)
        retrieves = any(SERVICES.get(str(context.abstract_syntax)) is Verb.GET for context in supported)
        return Offer(supported, forbidden, default_is_both=retrieves)

    def _context_of(self, uid: str, verb: Verb, permitted: Set[Verb], role: Role | None) -> PresentationContext | None:
        if verb is Verb.STORAGE_COMMITMENT:
            asks, reports = verb in permitted, Verb.STORAGE_COMMITMENT_REPORT in permitted
            return _context(uid, UNCOMPRESSED, scu=asks, scp=reports) if asks or reports else None
        if verb is not Verb.STORE:
            return _context(uid, UNCOMPRESSED) if verb in permitted else None
        if Verb.GET not in permitted:
            return _context(uid, self._storage_syntaxes) if verb in permitted else None
        if verb in permitted:
            return _context(uid, self._storage_syntaxes, scu=True, scp=True)
        receives = role is not None and role.scp
        return _context(uid, self._storage_syntaxes, scu=False, scp=True) if receives else None

    def verb(self, abstract_syntax: str) -> Verb | None:
        """What a context of this abstract syntax is for; None for what is not served here."""
        service = SERVICES.get(abstract_syntax)
        if service is not None:
            return service if service in self._offered else None
        if abstract_syntax in STORAGE_CLASSES:
            return Verb.STORE
        unknown = 0 < len(abstract_syntax) <= MAXIMUM_UID_CHARACTERS and abstract_syntax not in UID_dictionary
        if self._unknown_sop_class_accepted and unknown:
            return Verb.STORE
        return None


@lru_cache(maxsize=1024)
def _context(
    abstract_syntax: str, transfer_syntaxes: tuple[str, ...], scu: bool | None = None, scp: bool | None = None
) -> PresentationContext:
    """The acceptor's side of a context; `scu`, `scp`: what the requestor may be, None for the default roles.

    Shared by associations: negotiation only reads it.
    """
    context = build_context(UID(abstract_syntax), list(transfer_syntaxes))
    context.scu_role, context.scp_role = scu, scp
    return context
