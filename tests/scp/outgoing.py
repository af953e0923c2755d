"""What the tests of the outgoing side have in common: who calls whom, and what is sent."""

from typing import Any, Final

from scp.command_set import Response
from scp.data_set_sources import Chunks, EncodedDataSet
from scp.environment import configure_pynetdicom
from scp.requestor import Destination, ProposedContext, RequestorAssociation
from scp.scu import StoredInstance, c_store
from tests.support.data_sets import EXPLICIT, IMPLICIT, PIXEL_DATA, element
from tests.support.rawdicom import CT_IMAGE, VERIFICATION, image

configure_pynetdicom()

OURS: Final = "GATEWAY"
THEIRS: Final = "STORESCP"
TIMEOUT_S: Final = 20.0
# For peers that never answer.
SHORT_S: Final = 0.5

ECHO_CONTEXT: Final = ProposedContext(VERIFICATION, (IMPLICIT,))
CT_CONTEXT: Final = ProposedContext(CT_IMAGE, (EXPLICIT,))


def destination(port: int, timeout_s: float = TIMEOUT_S, **changes: Any) -> Destination:
    return Destination("127.0.0.1", port, THEIRS, OURS, timeout_s, **changes)


def open_association(
    port: int, *contexts: ProposedContext, timeout_s: float = TIMEOUT_S, **changes: Any
) -> RequestorAssociation:
    return RequestorAssociation(destination(port, timeout_s, **changes), contexts or (ECHO_CONTEXT, CT_CONTEXT)).open()


def ct(uid: str, pixel_bytes: int = 1000, fill: bytes = b"\1") -> bytes:
    """An encoded CT image, Explicit VR Little Endian."""
    return image(uid, rest=element(PIXEL_DATA, "OW", fill * pixel_bytes))


def store(
    association: RequestorAssociation,
    uid: str,
    data_set: EncodedDataSet | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    **more: Any,
) -> Response:
    """Stores a CT image."""
    source = Chunks([ct(uid)]) if data_set is None else data_set
    instance = StoredInstance(CT_IMAGE, uid, EXPLICIT)
    return c_store(association.requests, instance, source, timeout_s=timeout_s, **more)
