"""What scp/ relies on in pynetdicom beyond its documented interface.

When a new release of pynetdicom breaks one of these tests, read the change and the file of scp/ that the message
names, decide whether that file still holds, mend it, and only then move the pin and the digests here.
"""

import hashlib
import inspect
import socket
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final

import pydicom._uid_dict
import pydicom.config
import pynetdicom.presentation
import pytest
from pynetdicom import AE, _config, fsm, pdu, sop_class
from pynetdicom.acse import ACSE
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation, AssociationSocket
from pynetdicom.utils import decode_bytes, make_target, set_ae

PINNED: Final = "3.0.4"

UPPER_LAYER: Final = "scp/upper_layer.py"
ASSOCIATION: Final = "scp/association.py"
CONTEXTS: Final = "scp/contexts.py"
ASSOCIATE_REQUEST: Final = "scp/associate_request.py"
PRIMITIVES: Final = "scp/associate_primitives.py"
NEGOTIATION: Final = "scp/negotiation.py"
REQUESTOR: Final = "scp/requestor.py"
REQUESTS: Final = "scp/requests.py"

# Source that is overridden, or whose inner working is relied on, and who does so.
DIGESTS: Final[list[tuple[Any, str, str]]] = [
    (Association.__init__, "eb07516b8009ad8f", ASSOCIATION),
    (Association.set_socket, "235681dc751728fb", UPPER_LAYER),
    (Association.run_reactor, "ed8bbbe3b3d6ddae", ASSOCIATION),
    (Association._run_reactor, "f28838c5559e462a", ASSOCIATION),
    (Association._abort_blocking, "10b43ef8c63c6764", ASSOCIATION),
    (Association.kill, "8f9713666a7f4cff", ASSOCIATION),
    (ACSE._negotiate_as_acceptor, "fffd360957c42a8e", ASSOCIATION),
    (ACSE.send_accept, "c03855deabefe975", ASSOCIATION),
    (ACSE.send_reject, "700998293bbcb6c9", ASSOCIATION),
    (ACSE.send_release, "28eaf9df836ca88f", ASSOCIATION),
    (ACSE.send_abort, "6707ebd82b156b4b", UPPER_LAYER),
    (ACSE.is_release_requested, "894b33d21a8dec8e", ASSOCIATION),
    (DULServiceProvider, "c0a5c6a4618efd94", UPPER_LAYER),
    (fsm, "2fc1cecfa043749e", UPPER_LAYER),
    (AssociationSocket.__init__, "1f0325fdef2cc353", UPPER_LAYER),
    (AssociationSocket.send, "1ea8158c0b51faca", UPPER_LAYER),
    (AssociationSocket.close, "c726c8db53813d55", UPPER_LAYER),
    (AssociationSocket._shutdown_socket, "e2b2628faa81a578", UPPER_LAYER),
    (pynetdicom.presentation.negotiate_as_acceptor, "d5413f08f0ac7b32", NEGOTIATION),
    (PresentationContext, "945149f63930ecec", NEGOTIATION),
    (A_ASSOCIATE, "c076f97d6c05831a", PRIMITIVES),
    (pynetdicom.presentation.build_context, "6b336c25b63180f8", CONTEXTS),
    (pdu.A_ASSOCIATE_RQ, "48c0d9e34b2f9d0c", ASSOCIATE_REQUEST),
    (decode_bytes, "d684af5eae3231d6", ASSOCIATE_REQUEST),
    (set_ae, "dbf94ac34df6276c", ASSOCIATE_REQUEST),
    (make_target, "81bc7a65ab49454a", ASSOCIATION),
    (ServiceUser, "599c662fa570d397", REQUESTOR),
    (ACSE.send_request, "3608921809cbe3a5", REQUESTOR),
    (ACSE.negotiate_release, "e66977c7292334c5", REQUESTOR),
    (AssociationSocket.connect, "aeeeae413bd339dc", UPPER_LAYER),
    (pynetdicom.presentation.negotiate_as_requestor, "4a0668500d9c3a2d", REQUESTOR),
    (pynetdicom.presentation.build_role, "fb0c0f89c2249d89", REQUESTOR),
    (pdu.A_ASSOCIATE_AC, "113d46bf80358ec8", UPPER_LAYER),
    (pdu.A_ASSOCIATE_RJ, "26112a9fa5266399", UPPER_LAYER),
]


def digest(source: Any) -> str:
    """SHA-256 of the source text of a function, class or module, shortened."""
    return hashlib.sha256(inspect.getsource(source).encode()).hexdigest()[:16]


def _name(source: Any) -> str:
    return source.__name__ if isinstance(source, ModuleType) else f"{source.__module__}.{source.__qualname__}"


@pytest.fixture
def association() -> Association:
    return Association(AE(), "acceptor")


def test_pynetdicom_is_the_release_that_scp_was_written_for() -> None:
    installed = version("pynetdicom")
    assert installed == PINNED, f"scp/ subclasses private parts of pynetdicom {PINNED}, installed is {installed}"


@pytest.mark.parametrize(("source", "expected", "ours"), DIGESTS, ids=[_name(source) for source, _, _ in DIGESTS])
def test_source_is_that_of_the_release_that_scp_was_written_for(source: Any, expected: str, ours: str) -> None:
    assert digest(source) == expected, f"{_name(source)} has changed: read it, then look at {ours}"


@pytest.mark.parametrize(
    ("called", "parameters", "ours"),
    [
        (Association.__init__, ["self", "ae", "mode"], ASSOCIATION),
        (Association.set_socket, ["self", "socket"], UPPER_LAYER),
        (ACSE.__init__, ["self", "assoc"], ASSOCIATION),
        (ACSE.send_reject, ["self", "result", "source", "diagnostic"], ASSOCIATION),
        (ACSE.send_release, ["self", "is_response"], ASSOCIATION),
        (ACSE.send_abort, ["self", "source"], UPPER_LAYER),
        (ACSE.send_request, ["self"], REQUESTOR),
        (ACSE.negotiate_release, ["self"], REQUESTOR),
        (Association.abort, ["self", "block"], REQUESTOR),
        (ACSE.is_release_requested, ["self"], ASSOCIATION),
        (DULServiceProvider.__init__, ["self", "assoc"], UPPER_LAYER),
        (DULServiceProvider.send_pdu, ["self", "primitive"], UPPER_LAYER),
        (DULServiceProvider.receive_pdu, ["self", "wait", "timeout"], UPPER_LAYER),
        (DULServiceProvider._decode_pdu, ["self", "bytestream"], UPPER_LAYER),
        (DULServiceProvider._process_recv_primitive, ["self"], UPPER_LAYER),
        (DULServiceProvider._send, ["self", "pdu"], UPPER_LAYER),
        (DULServiceProvider.peek_next_pdu, ["self"], REQUESTS),
        (DULServiceProvider.kill_dul, ["self"], UPPER_LAYER),
        (fsm.StateMachine.do_action, ["self", "event"], UPPER_LAYER),
        (AssociationSocket.__init__, ["self", "assoc", "client_socket", "address"], UPPER_LAYER),
        (AssociationSocket.send, ["self", "bytestream"], UPPER_LAYER),
        (AssociationSocket.close, ["self"], UPPER_LAYER),
        (AssociationSocket.connect, ["self", "primitive"], UPPER_LAYER),
        (AddressInformation.from_tuple, ["address_info"], ASSOCIATION),
        (pynetdicom.presentation.build_context, ["abstract_syntax", "transfer_syntax"], CONTEXTS),
        (
            pynetdicom.presentation.negotiate_as_requestor,
            ["rq_contexts", "ac_contexts", "roles"],
            REQUESTOR,
        ),
        (pynetdicom.presentation.build_role, ["uid", "scu_role", "scp_role"], REQUESTOR),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_signature_is_the_one_that_scp_overrides_or_calls(
    called: Callable[..., Any], parameters: list[str], ours: str
) -> None:
    assert list(inspect.signature(called).parameters) == parameters, f"look at {ours}"


@pytest.mark.parametrize(
    ("attribute", "kind", "ours"),
    [
        ("acse", ACSE, ASSOCIATION),
        ("dul", DULServiceProvider, ASSOCIATION),
        ("requestor", ServiceUser, ASSOCIATION),
        ("acceptor", ServiceUser, ASSOCIATION),
        ("_accepted_cx", dict, ASSOCIATION),
        ("_rejected_cx", list, ASSOCIATION),
        ("rejected_contexts", list, ASSOCIATION),
        ("is_established", bool, ASSOCIATION),
        ("is_released", bool, ASSOCIATION),
        ("daemon", bool, ASSOCIATION),
        ("acse_timeout", (int, float), ASSOCIATION),
        ("network_timeout", (int, float), ASSOCIATION),
    ],
)
def test_association_has_the_attributes_that_scp_uses(
    association: Association, attribute: str, kind: Any, ours: str
) -> None:
    assert isinstance(getattr(association, attribute), kind), f"look at {ours}"


@pytest.mark.parametrize("name", ["maximum_length", "ae_title", "address_info", "primitive"])
def test_service_user_has_the_attributes_that_scp_sets(association: Association, name: str) -> None:
    assert hasattr(association.acceptor, name), f"look at {ASSOCIATION}"


@pytest.mark.parametrize(
    "name",
    [
        "event_queue",
        "to_user_queue",
        "to_provider_queue",
        "_recv_pdu",
        "state_machine",
        "artim_timer",
        "socket",
        "_kill_thread",
    ],
)
def test_upper_layer_has_the_attributes_that_scp_uses(association: Association, name: str) -> None:
    assert hasattr(association.dul, name), f"look at {UPPER_LAYER}"


def test_timeouts_of_an_association_live_in_its_upper_layer(association: Association) -> None:
    """The reason why a replaced upper layer must be told them again."""
    association.acse_timeout, association.network_timeout = 17.0, 18.0
    assert (association.dul.artim_timer.timeout, association.dul._idle_timer.timeout) == (17.0, 18.0)


def test_association_runs_the_reactor_that_a_subclass_overrides() -> None:
    ran = []

    class Overridden(Association):
        def run_reactor(self) -> None:
            ran.append(True)

    thread = Overridden(AE(), "acceptor")
    thread.start()
    thread.join(30)
    assert ran, f"look at {ASSOCIATION}"


def test_socket_announces_itself_to_the_state_machine_and_its_end_likewise(association: Association) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wrapped = AssociationSocket(association, client_socket=ours)
        assert association.dul.event_queue.get_nowait() == "Evt5"
        wrapped.close()
        assert association.dul.event_queue.get_nowait() == "Evt17"
        assert wrapped.socket is None


@pytest.mark.parametrize(
    ("event", "state", "action"),
    [
        ("Evt1", "Sta1", "AE-1"),
        ("Evt2", "Sta4", "AE-2"),
        ("Evt3", "Sta5", "AE-3"),
        ("Evt4", "Sta5", "AE-4"),
        ("Evt15", "Sta5", "AA-1"),
        ("Evt16", "Sta5", "AA-3"),
        ("Evt17", "Sta5", "AA-4"),
        ("Evt19", "Sta5", "AA-8"),
        ("Evt11", "Sta6", "AR-1"),
        ("Evt12", "Sta7", "AR-8"),
        ("Evt13", "Sta7", "AR-3"),
        ("Evt14", "Sta9", "AR-9"),
        ("Evt13", "Sta11", "AR-3"),
        ("Evt5", "Sta1", "AE-5"),
        ("Evt6", "Sta2", "AE-6"),
        ("Evt16", "Sta2", "AA-2"),
        ("Evt17", "Sta2", "AA-5"),
        ("Evt19", "Sta2", "AA-1"),
        ("Evt7", "Sta3", "AE-7"),
        ("Evt8", "Sta3", "AE-8"),
        ("Evt9", "Sta6", "DT-1"),
        ("Evt12", "Sta6", "AR-2"),
        ("Evt15", "Sta6", "AA-1"),
        ("Evt16", "Sta6", "AA-3"),
        ("Evt17", "Sta6", "AA-4"),
        ("Evt19", "Sta6", "AA-8"),
        ("Evt14", "Sta8", "AR-4"),
        ("Evt17", "Sta8", "AA-4"),
        ("Evt17", "Sta13", "AR-5"),
    ],
)
def test_state_machine_has_the_transition_of_the_standard(event: str, state: str, action: str) -> None:
    assert fsm.TRANSITION_TABLE[(event, state)] == action, f"PS3.8 table 9-10; look at {UPPER_LAYER}"


def test_connection_that_a_requestor_has_already_is_announced_as_an_indication_only() -> None:
    """Evt5, which PeerSocket takes away again, and nothing else."""
    requestor = Association(AE(), "requestor")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        AssociationSocket(requestor, client_socket=ours)
        assert list(requestor.dul.event_queue.queue) == ["Evt5"], f"look at {UPPER_LAYER}"
        assert list(requestor.dul.to_provider_queue.queue) == []


def test_switches_of_configuration_exist_and_have_their_meaning() -> None:
    assert isinstance(_config.LOG_HANDLER_LEVEL, str)
    assert isinstance(_config.LOG_REQUEST_IDENTIFIERS, bool)
    assert isinstance(_config.LOG_RESPONSE_IDENTIFIERS, bool)
    assert {"AE", "UI"} <= set(_config.VALIDATORS)
    assert isinstance(_config.CODECS, tuple)
    assert not _config.UNRESTRICTED_STORAGE_SERVICE
    assert pydicom.config.settings.reading_validation_mode is not None


def test_tables_of_sop_classes_and_uids_exist() -> None:
    assert "1.2.840.10008.5.1.4.1.1.2" in sop_class._STORAGE_CLASSES.values(), f"look at {CONTEXTS}"
    assert "1.2.840.10008.1.1" in pydicom._uid_dict.UID_dictionary, f"look at {CONTEXTS}"


def test_a_negotiated_context_names_its_syntaxes_and_result() -> None:
    context = PresentationContext()
    assert {"abstract_syntax", "transfer_syntax", "context_id", "result"} <= set(dir(context)), f"look at {CONTEXTS}"


def test_a_negotiated_context_has_the_attributes_that_scp_sets() -> None:
    attributes = {"_context_id", "_abstract_syntax", "_transfer_syntax", "result", "_as_scu", "_as_scp"}
    assert attributes <= set(vars(PresentationContext())), f"look at {NEGOTIATION}"


def test_primitives_have_the_attributes_that_scp_sets() -> None:
    assert {"_called_ae_title", "_calling_ae_title"} <= set(vars(A_ASSOCIATE())), f"look at {PRIMITIVES}"
    assert "_user_identity_type" in vars(UserIdentityNegotiation()), f"look at {PRIMITIVES}"


def test_idle_upper_layer_needs_no_thread(association: Association) -> None:
    assert isinstance(association.dul.artim_timer, Timer)
    assert not association._dul_ready.is_set(), f"look at {UPPER_LAYER}"


def test_decoder_of_ae_titles_still_needs_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it does not any more, scp/associate_request.py has less to do."""
    monkeypatch.setattr(_config, "CODECS", ("ascii", "latin-1"))
    assert decode_bytes(b"\xc4BC") == "BC", f"look at {ASSOCIATE_REQUEST}"
    with pytest.raises(ValueError, match="spaces"):
        set_ae(" " * 16, "Called AE Title", False, False)
