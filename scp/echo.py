"""C-ECHO to a modality, step by step, for a person who asks why it cannot be reached."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dicom.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from gateway.options.config import Configuration
from gateway.options.orthanc import Modality
from gateway.printable import printable
from gateway.tls.context import TlsError
from scp.association_errors import AssociationError
from scp.connection import connect, name, resolve, secure
from scp.contexts import VERIFICATION
from scp.destinations import destination_of
from scp.environment import configure_pynetdicom
from scp.requestor import ProposedContext, RequestorAssociation
from scp.scu import c_echo
from scp.tls_connection import Connection


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the report; after one that is not `ok` nothing follows."""

    text: str
    ok: bool = True


class _Clock:
    """Milliseconds since the last step, for a line of the report."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __str__(self) -> str:
        last, self._last = self._last, time.monotonic()
        return f"({(self._last - last) * 1000:.1f} ms)"


def verify(configuration: Configuration, modality: Modality) -> Iterator[Step]:
    """Call `modality` as the gateway does, and yield what comes of it. Raises nothing for what a peer does."""
    try:
        destination = destination_of(configuration, modality)
    except TlsError as error:
        yield Step(f"TLS: {error}", ok=False)
        return
    yield Step(
        f"AE title {destination.called_ae_title} at {destination.host}, port {destination.port}; "
        f"we are {destination.calling_ae_title}, and wait {destination.timeout_s:g} s at most"
    )
    configure_pynetdicom()
    association = RequestorAssociation(destination, [ProposedContext(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))])
    step, clock = "name", _Clock()
    try:
        addresses = resolve(destination.host, destination.port)
        yield Step(f"name: {', '.join(str(address[0]) for _family, address in addresses)} {clock}")
        step = "connection"
        plain = connect(addresses, destination.timeout_s)
        yield Step(f"connection: from {name(plain.getsockname())} {clock}")
        connection: Connection = plain
        if destination.ssl_context is not None:
            step = "TLS"
            connection = secure(plain, destination.ssl_context, destination.host, destination.timeout_s)
            yield Step(f"TLS: {connection.version} {clock}")
        step = "association"
        association.negotiate(connection)
        yield Step(f"association: accepted{_of_the_peer(association)} {clock}")
        step = "C-ECHO"
        response = c_echo(association.requests, timeout_s=destination.timeout_s)
        said = f": {printable(response.error_comment)}" if response.error_comment else ""
        yield Step(f"C-ECHO: status 0x{response.status:04X}{said} {clock}", ok=response.status == 0)
        association.release()
        yield Step(f"release: {'in order' if association.is_released else 'not in order'} {clock}")
    except AssociationError as error:
        yield Step(f"{step}: {error} {clock}", ok=False)
    finally:
        association.close()


def _of_the_peer(association: RequestorAssociation) -> str:
    version = printable(association.acceptor.implementation_version_name or "")
    limit = association.peer_maximum_pdu_bytes
    pdus = f"PDUs of {limit} bytes at most" if limit else "PDUs of any length"
    return f"{f' by {version}' if version else ''}, which takes {pdus}"
