"""What DCMTK's tools and pynetdicom read in our A-ASSOCIATE-AC."""

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext, build_context, build_role

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.deliveries import DeliveryClient
from gateway.options import config
from gateway.spool import Spool, SpoolWriter
from scp.association import AcceptedAssociation
from scp.contexts import ContextPolicy, Offer
from scp.environment import Environment
from scp.policies import policies
from scp.storage import StorageService
from tests.scp.associate_requests import pynetdicom_as_in_a_worker
from tests.scp.conftest import StartGateway
from tests.support.archives import no_archives
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.dcmtk import echoscu
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, VERIFICATION, Context, RawPeer
from tests.support.standalone import Gateway

DEADLINE_S: Final = 30
MAXIMUM_CONTEXTS: Final = 128
GET_STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2.3"

# One presentation context in what DCMTK's tools print with -d of an A-ASSOCIATE-AC.
PRINTED_CONTEXT: Final = re.compile(
    r"Context ID: +(?P<id>\d+) \((?P<result>[^)]+)\)\n"
    r".*Abstract Syntax: =(?P<abstract_syntax>\w+)\n"
    r".*Proposed SCP/SCU Role: (?P<proposed_role>.+)\n"
    r".*Accepted SCP/SCU Role: (?P<accepted_role>.+)\n"
    r"(?:.*Accepted Transfer Syntax: =(?P<transfer_syntax>\w+)\n)?"
)


@dataclass
class Acceptor:
    """Associations in this process, with what they offer."""

    environment: Environment
    offered: list[PresentationContext] = field(default_factory=list)
    port: int = 0
    associations: list[AcceptedAssociation] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is shut down."""
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            association = AcceptedAssociation(self.environment, connection, address, lambda: None)
            self.associations.append(association)
            association.start()


class OfferedContexts(ContextPolicy):
    """Offers to everybody what the test says."""

    def __init__(self, offered: list[PresentationContext]) -> None:
        self.offered = offered

    def offer(self, *_what_is_asked: object) -> Offer:
        """See ContextPolicy."""
        return Offer(self.offered)

    def verb(self, abstract_syntax: str) -> None:
        """All that comes is for pynetdicom's services."""
        return


class OfferingEnvironment(Environment):
    """Offers what the test says, and nothing else."""

    offer: OfferedContexts

    @property
    def contexts(self) -> ContextPolicy:
        """See Environment."""
        return self.offer


@pytest.fixture
def acceptor(tmp_path: Path) -> Iterator[Acceptor]:
    configuration = config.parse({"DicomGateway": {"StateDirectory": str(tmp_path / "state")}}, tmp_path)
    spool = Spool(configuration.state_directory)
    spool.prepare()
    writer = SpoolWriter(spool)
    with pynetdicom_as_in_a_worker(), socket.create_server(("127.0.0.1", 0)) as listener:
        storage = StorageService(
            configuration, writer, DeliveryClient(configuration.state_directory), policies(configuration, None)
        )
        environment = OfferingEnvironment(configuration, storage, no_archives())
        made = Acceptor(environment, port=listener.getsockname()[1])
        environment.offer = OfferedContexts(made.offered)
        serving = threading.Thread(target=made.serve, args=(listener,))
        serving.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join(DEADLINE_S)
            for association in made.associations:
                association.interrupt()
                association.join(DEADLINE_S)
            writer.close()


def _supported(uid: str, *syntaxes: str, scu_role: bool | None = None, scp_role: bool | None = None) -> Any:
    context = build_context(uid, list(syntaxes) or [EXPLICIT])
    context.scu_role, context.scp_role = scu_role, scp_role
    return context


def _dcmtk(tool: str, port: int, *options: str) -> str:
    """What one of DCMTK's tools prints with -d, whatever its exit status."""
    completed = subprocess.run(
        [f"/usr/bin/{tool}", "-d", *options, "127.0.0.1", str(port)],
        env={name: value for name, value in os.environ.items() if name != "TCP_NODELAY"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=DEADLINE_S,
        check=False,
    )
    return completed.stdout


def _printed_contexts(printed: str) -> list[dict[str, str]]:
    acceptance = printed[printed.index("BEGIN A-ASSOCIATE-AC") : printed.index("END A-ASSOCIATE-AC")]
    return [match.groupdict() for match in PRINTED_CONTEXT.finditer(acceptance)]


def test_echoscu_reads_128_contexts_titles_length_and_implementation(intact: Gateway) -> None:
    completed = echoscu(
        intact.dicom_port, "-d", "-pts", "3", "-ppc", str(MAXIMUM_CONTEXTS), calling="SOMEBODY", called="A TITLE"
    )
    assert completed.returncode == 0
    printed = completed.stdout + completed.stderr
    assert re.search(r"Calling Application Name: +SOMEBODY\n", printed)
    assert re.search(r"Responding Application Name: +A TITLE\n", printed)
    assert re.search(r"Their Max PDU Receive Size: +131072\n", printed)
    assert re.search(rf"Their Implementation Class UID: +{re.escape(IMPLEMENTATION_CLASS_UID)}\n", printed)
    assert re.search(rf"Their Implementation Version Name: +{IMPLEMENTATION_VERSION_NAME}\n", printed)
    contexts = _printed_contexts(printed)
    assert [int(context["id"]) for context in contexts] == list(range(1, 256, 2))
    assert {context["result"] for context in contexts} == {"Accepted"}
    assert {context["transfer_syntax"] for context in contexts} == {"LittleEndianExplicit"}


def test_getscu_that_may_not_retrieve_reads_default_roles_and_a_refused_context(intact: Gateway) -> None:
    get, *storage = _printed_contexts(_dcmtk("getscu", intact.dicom_port, "-S", "-k", "0008,0052=STUDY"))
    assert (get["result"], get["transfer_syntax"]) == ("User Rejection", None)
    assert len(storage) == 120
    assert {context["accepted_role"] for context in storage} == {"Default"}
    assert sum(context["result"] == "Accepted" for context in storage) > 100


def test_getscu_reads_the_roles_that_it_was_given(acceptor: Acceptor) -> None:
    acceptor.offered += [
        _supported(GET_STUDY_ROOT),
        _supported(CT_IMAGE, scu_role=True, scp_role=True),
        _supported(MR_IMAGE),
    ]
    printed = _printed_contexts(_dcmtk("getscu", acceptor.port, "-S", "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2"))
    accepted = {each["abstract_syntax"]: each["accepted_role"] for each in printed if each["result"] == "Accepted"}
    assert accepted == {
        "GETStudyRootQueryRetrieveInformationModel": "Default",
        "CTImageStorage": "SCP",
        "MRImageStorage": "Default",
    }


def test_pynetdicom_as_requestor_gets_contexts_roles_and_what_we_say_of_ourselves(acceptor: Acceptor) -> None:
    acceptor.offered += [
        _supported(VERIFICATION, EXPLICIT),
        _supported(CT_IMAGE, IMPLICIT, EXPLICIT, scu_role=True, scp_role=True),
        _supported(MR_IMAGE, EXPLICIT),
    ]
    requestor = AE("ASKING")
    proposed = [
        build_context(VERIFICATION, [IMPLICIT, EXPLICIT]),
        build_context(CT_IMAGE, [EXPLICIT, IMPLICIT]),
        build_context(MR_IMAGE, [IMPLICIT]),
        build_context("1.2.3.4", [EXPLICIT]),
    ]
    roles = [build_role(CT_IMAGE, scp_role=True), build_role(VERIFICATION, scu_role=True, scp_role=True)]
    association = requestor.associate("127.0.0.1", acceptor.port, proposed, ext_neg=roles)
    try:
        assert association.is_established
        assert [_as_negotiated(context) for context in association.accepted_contexts] == [
            (1, VERIFICATION, EXPLICIT, True, False),
            (3, CT_IMAGE, IMPLICIT, False, True),
        ]
        assert {context.context_id: context.result for context in association.rejected_contexts} == {5: 4, 7: 3}
        assert association.acceptor.maximum_length == 131072
        assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
        assert association.acceptor.implementation_version_name == IMPLEMENTATION_VERSION_NAME
        assert {uid: item.scp_role for uid, item in association.acceptor.role_selection.items()} == {CT_IMAGE: True}
        (ours,) = acceptor.associations
        assert [_as_negotiated(context) for context in ours.accepted_contexts] == [
            (1, VERIFICATION, EXPLICIT, False, True),
            (3, CT_IMAGE, IMPLICIT, True, False),
        ]
    finally:
        association.release()
    assert association.is_released


def _as_negotiated(context: PresentationContext) -> tuple[Any, ...]:
    syntax = context.transfer_syntax[0]
    return context.context_id, context.abstract_syntax, syntax, context.as_scu, context.as_scp


def test_abstract_syntax_that_is_too_long_to_be_a_uid_is_no_unknown_sop_class(start_gateway: StartGateway) -> None:
    generous = start_gateway(UnknownSopClassAccepted=True)
    with RawPeer(generous.dicom_port) as peer:
        answer = peer.associate([Context(1, "1." + "9" * 62), Context(3, "1." + "9" * 63), Context(5, "")])
        assert answer.results == {1: 0, 3: 3, 5: 3}
        peer.release()
