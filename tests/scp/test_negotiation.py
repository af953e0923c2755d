"""A-ASSOCIATE: who may talk to whom, and which presentation contexts are accepted (PS3.8 9.3.2 to 9.3.4)."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from tests.scp.conftest import Log, StartGateway
from tests.support.data_sets import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE
from tests.support.rawdicom import (
    A_ASSOCIATE_RJ,
    CT_IMAGE,
    MR_IMAGE,
    VERIFICATION,
    Context,
    RawPeer,
    Rejected,
    associate_rq,
    pdu,
)
from tests.support.standalone import Gateway

CALLING_NOT_RECOGNIZED: Final = Rejected(1, 1, 3)
CALLED_NOT_RECOGNIZED: Final = Rejected(1, 1, 7)
ACCEPTED, USER_REJECTION, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 1, 3, 4

FIND_PATIENT_STUDY_ONLY: Final = "1.2.840.10008.5.1.4.1.2.3.1"
PRIVATE_CLASS: Final = "1.2.840.99999.1.2"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
RLE: Final = "1.2.840.10008.1.2.5"
MPEG2: Final = "1.2.840.10008.1.2.4.100"
PRIVATE_SYNTAX: Final = "1.2.840.99999.9"

CONTEXTS: Final = (Context(1), Context(3, VERIFICATION))


def _results(gateway: Gateway, contexts: Sequence[Context] = CONTEXTS, **titles: str | bytes) -> dict[int, int]:
    with RawPeer(gateway.dicom_port) as peer:
        answer = peer.associate(contexts, **titles)
        peer.release()
        return dict(answer.results)


def _rejection(gateway: Gateway, **titles: str | bytes) -> Rejected:
    """The rejection; its log line must name peer, both titles being none is possible, and a reason."""
    log = Log(gateway)
    with RawPeer(gateway.dicom_port) as peer:
        with pytest.raises(Rejected) as caught:
            peer.associate(CONTEXTS, **titles)
        assert peer.ends() == []
    log.expect("WARNING", "peer=127.0.0.1", "association rejected", "reason=")
    return caught.value


NO_TITLES = [
    b"",
    bytes(16),
    b"A\nB",
    b"\x1b[31mRED",
    b"A\0B",
    b"A\\B",
    b"A\x7f",
    b"\xc4BC",
    "Ä".encode(),
    b"\xff" * 16,
]


@pytest.mark.parametrize("title", NO_TITLES)
def test_calling_ae_title_that_is_none_is_rejected(intact: Gateway, title: bytes) -> None:
    assert _rejection(intact, calling=title) == CALLING_NOT_RECOGNIZED


@pytest.mark.parametrize("title", NO_TITLES)
def test_called_ae_title_that_is_none_is_rejected(intact: Gateway, title: bytes) -> None:
    assert _rejection(intact, called=title) == CALLED_NOT_RECOGNIZED


@pytest.mark.parametrize("title", [b"A", b"  A", b"A CT 1", b"a.b-c_d!", b"X" * 16, b"A".ljust(16, b"\0"), b"A \0\0"])
def test_ae_title_with_any_printable_characters_and_padding_is_accepted(intact: Gateway, title: bytes) -> None:
    log = Log(intact)
    assert _results(intact, calling=title, called=title) == {1: ACCEPTED, 3: ACCEPTED}
    name = title.strip(b" \0").decode()
    log.expect("association released", f'calling="{name}"' if " " in name else f"calling={name}")


def test_control_characters_in_an_ae_title_do_not_reach_the_log(intact: Gateway) -> None:
    log = Log(intact)
    _rejection(intact, calling=b"A\n\x1b[2J\rB")
    log.expect("association rejected", r"calling=A\x0a\x1b[2J\x0dB")


def test_any_called_ae_title_is_accepted_by_default(intact: Gateway) -> None:
    assert _results(intact, called="SOMEBODY") == {1: ACCEPTED, 3: ACCEPTED}


def test_protocol_version_without_bit_0_is_rejected_by_the_service_provider(intact: Gateway) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port) as peer, pytest.raises(Rejected) as caught:
        peer.associate(CONTEXTS, protocol_version=2)
    assert caught.value == Rejected(1, 2, 2)
    log.expect("peer=127.0.0.1", "protocol version 0x0002 is not supported")


def test_further_bits_of_the_protocol_version_are_not_looked_at(intact: Gateway) -> None:
    with RawPeer(intact.dicom_port) as peer:
        peer.associate(CONTEXTS, protocol_version=0x8003)
        assert peer.echo(3).status == 0


@pytest.mark.parametrize("name", [b"1.2.840.10008.3.1.1.2", b"", None])
def test_another_application_context_is_rejected(intact: Gateway, name: bytes | None) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port) as peer:
        with pytest.raises(Rejected) as caught:
            peer.associate(CONTEXTS, application_context=name)
        assert peer.ends() == []
    assert caught.value == Rejected(1, 1, 2)
    log.expect("WARNING", "calling=RAW", "association rejected", "application context")


def test_padded_application_context_is_the_one_of_dicom(intact: Gateway) -> None:
    with RawPeer(intact.dicom_port) as peer:
        peer.associate(CONTEXTS, application_context=b"1.2.840.10008.3.1.1.1\0")
        assert peer.echo(3).status == 0


def test_unknown_items_of_the_user_information_are_ignored(intact: Gateway) -> None:
    with RawPeer(intact.dicom_port) as peer:
        window = b"\x53\0\0\4\0\0\0\0"  # asynchronous operations without limit
        identity = b"\x58\0\0\x0a\1\1\0\4user\0\0"
        peer.associate(CONTEXTS, user_information=window + identity)
        assert peer.echo(3).status == 0


def test_largest_a_associate_rq_of_the_standard_is_accepted(intact: Gateway) -> None:
    syntaxes = [f"1.2.840.99999.{n}" for n in range(44)] + [EXPLICIT]
    contexts = [Context(n, CT_IMAGE, syntaxes) for n in range(1, 256, 2)]
    assert len(associate_rq(contexts)) > 100_000
    assert set(_results(intact, contexts).values()) == {ACCEPTED}


def test_abstract_syntax_that_is_not_served_is_result_3_and_logged(intact: Gateway) -> None:
    log = Log(intact)
    contexts = [Context(1), Context(3, FIND_PATIENT_STUDY_ONLY), Context(5, PRIVATE_CLASS), Context(7, EXPLICIT)]
    unsupported = ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert _results(intact, contexts) == {1: ACCEPTED, 3: unsupported, 5: unsupported, 7: unsupported}
    log.expect("WARNING", "calling=RAW", "abstract syntax not supported", PRIVATE_CLASS, FIND_PATIENT_STUDY_ONLY)


def test_transfer_syntaxes_of_which_none_is_known_are_result_4_and_logged(intact: Gateway) -> None:
    log = Log(intact)
    contexts = [Context(1, CT_IMAGE, (PRIVATE_SYNTAX, "1.2.840.10008.1.2.9")), Context(3, VERIFICATION, (RLE,))]
    assert set(_results(intact, contexts).values()) == {TRANSFER_SYNTAXES_NOT_SUPPORTED}
    log.expect("WARNING", "calling=RAW", "transfer syntaxes not supported", CT_IMAGE)


def test_malformed_uids_in_contexts_are_not_supported_and_harm_nothing(intact: Gateway) -> None:
    contexts = [Context(1, "../../etc"), Context(3, "9" * 70), Context(5, CT_IMAGE, ("x", EXPLICIT))]
    unsupported = ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert _results(intact, contexts) == {1: unsupported, 3: unsupported, 5: ACCEPTED}


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((BIG_ENDIAN, IMPLICIT), IMPLICIT),
        ((JPEG_BASELINE, DEFLATED, BIG_ENDIAN, IMPLICIT, EXPLICIT), EXPLICIT),
        ((RLE, JPEG_2000, JPEG_LS, JPEG_BASELINE), JPEG_BASELINE),
        ((RLE, JPEG_2000, JPEG_LS), JPEG_LS),
        ((PRIVATE_SYNTAX, RLE), RLE),
    ],
)
def test_the_gateway_chooses_by_its_own_order_as_the_built_in_scp_does(
    intact: Gateway, proposed: Sequence[str], chosen: str
) -> None:
    with RawPeer(intact.dicom_port) as peer:
        assert peer.associate([Context(1, CT_IMAGE, proposed)]).transfer_syntaxes == {1: chosen}


def test_each_context_has_a_transfer_syntax_of_its_own(intact: Gateway) -> None:
    syntaxes = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG_BASELINE, JPEG_2000, RLE)
    contexts = [Context(2 * n + 1, CT_IMAGE, (syntax,)) for n, syntax in enumerate(syntaxes)]
    with RawPeer(intact.dicom_port) as peer:
        answer = peer.associate(contexts)
    assert answer.transfer_syntaxes == {context.id: context.transfer_syntaxes[0] for context in contexts}


def test_the_maximum_length_that_is_announced_is_the_configured_one(
    intact: Gateway, start_gateway: StartGateway
) -> None:
    small = start_gateway(MaximumPduLength=8192)
    for running, expected in ((intact, 131072), (small, 8192)):
        with RawPeer(running.dicom_port) as peer:
            assert peer.associate(CONTEXTS).maximum_pdu_bytes == expected


@pytest.fixture(scope="module")
def strict(start_gateway: StartGateway) -> Gateway:
    """Serves its modalities only, under its own name, with AE titles compared to the letter."""
    return start_gateway(
        DicomAet="Mine",
        DicomCheckCalledAet=True,
        StrictAetComparison=True,
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
        DicomModalities={"ct": ["CT1", "10.0.0.1", 104], "mr": ["MR1", "10.0.0.2", 104, "Generic"]},
    )


@pytest.fixture(scope="module")
def selective(start_gateway: StartGateway) -> Gateway:
    """Lets each of its modalities do something else, and strangers nothing."""
    return start_gateway(
        DicomAet="Mine",
        DicomCheckCalledAet=True,
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
        DicomModalities={
            "array": ["CT1", "10.0.0.1", 104],
            "object": {"AET": "MR1", "Host": "10.0.0.2", "Port": 104},
            "no store": {"AET": "US1", "Host": "10.0.0.3", "Port": 104, "AllowStore": False},
            "no echo": {"AET": "XA1", "Host": "10.0.0.4", "Port": 104, "AllowEcho": False},
            "twice": ["RF1", "10.0.0.5", 104],
            "twice, without store": {"AET": "RF1", "Host": "10.0.0.6", "Port": 104, "AllowStore": False},
        },
    )


def test_unknown_peer_is_rejected_when_nothing_is_allowed_to_all(strict: Gateway) -> None:
    assert _rejection(strict, calling="STRANGER", called="Mine") == CALLING_NOT_RECOGNIZED


@pytest.mark.parametrize("calling", ["CT1", "MR1"])
def test_known_peer_is_served_when_nothing_is_allowed_to_all(strict: Gateway, calling: str) -> None:
    assert _results(strict, calling=calling, called="Mine") == {1: ACCEPTED, 3: ACCEPTED}


@pytest.mark.parametrize("called", ["ORTHANC", "MINE", "mine", "Mine2", "Min"])
def test_called_ae_title_must_be_ours_to_the_letter_if_compared_strictly(strict: Gateway, called: str) -> None:
    assert _rejection(strict, calling="CT1", called=called) == CALLED_NOT_RECOGNIZED


@pytest.mark.parametrize("calling", ["ct1", "Ct1"])
def test_calling_ae_title_is_known_by_the_letter_if_compared_strictly(strict: Gateway, calling: str) -> None:
    assert _rejection(strict, calling=calling, called="Mine") == CALLING_NOT_RECOGNIZED


@pytest.mark.parametrize("called", ["Mine", "MINE", " mine"])
def test_case_of_ae_titles_does_not_matter_by_default(selective: Gateway, called: str) -> None:
    assert _results(selective, calling="ct1", called=called) == {1: ACCEPTED, 3: ACCEPTED}


def test_called_ae_title_of_another_is_rejected_if_it_is_checked(selective: Gateway) -> None:
    assert _rejection(selective, calling="CT1", called="ORTHANC") == CALLED_NOT_RECOGNIZED


@pytest.mark.parametrize(
    ("calling", "store", "echo"),
    [
        ("CT1", ACCEPTED, ACCEPTED),
        ("MR1", ACCEPTED, ACCEPTED),
        ("US1", USER_REJECTION, ACCEPTED),
        ("XA1", ACCEPTED, USER_REJECTION),
        ("RF1", USER_REJECTION, ACCEPTED),
    ],
)
def test_contexts_without_permission_are_result_1_and_logged(
    selective: Gateway, calling: str, store: int, echo: int
) -> None:
    log = Log(selective)
    assert _results(selective, calling=calling, called="Mine") == {1: store, 3: echo}
    for verb, result in (("STORE", store), ("ECHO", echo)):
        if result == USER_REJECTION:
            log.expect("WARNING", f"calling={calling}", f"verb={verb}", "not permitted", "option=", "DicomModalities.")


@pytest.mark.parametrize(
    ("calling", "store"), [("STRANGER", USER_REJECTION), ("CT1", ACCEPTED), ("XA1", ACCEPTED), ("US1", USER_REJECTION)]
)
def test_what_is_allowed_to_all_is_allowed_to_strangers_and_to_modalities_whose_entry_forbids_it(
    start_gateway: StartGateway, calling: str, store: int
) -> None:
    running = start_gateway(
        DicomAlwaysAllowStore=False,
        DicomModalities={
            "array": ["CT1", "10.0.0.1", 104],
            "no echo": {"AET": "XA1", "Host": "10.0.0.4", "Port": 104, "AllowEcho": False},
            "no store": {"AET": "US1", "Host": "10.0.0.3", "Port": 104, "AllowStore": False},
        },
    )
    log = Log(running)
    assert _results(running, calling=calling) == {1: store, 3: ACCEPTED}
    if store == USER_REJECTION:
        log.expect("WARNING", f"calling={calling}", "verb=STORE", "not permitted")


def test_store_without_permission_is_not_authorized_on_the_verification_context(selective: Gateway) -> None:
    log = Log(selective)
    with RawPeer(selective.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="US1", called="Mine")
        response = peer.store("1.2.3", context_id=3)
        assert (response.status, response.comment) == (0x0124, "C-STORE is not permitted to this AE title")
        assert peer.echo(3).status == 0
    log.expect("WARNING", "peer=127.0.0.1", "calling=US1", "refused", "status=0x0124", "option=", "no store.AllowStore")


def test_store_with_permission_is_not_supported_on_the_verification_context(selective: Gateway) -> None:
    with RawPeer(selective.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="CT1", called="Mine")
        assert peer.store("1.2.3", context_id=3).status == 0x0122


def test_echo_without_permission_is_not_authorized_on_a_storage_context(selective: Gateway) -> None:
    log = Log(selective)
    with RawPeer(selective.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="XA1", called="Mine")
        response = peer.echo(1)
        assert (response.status, response.comment) == (0x0124, "C-ECHO is not permitted to this AE title")
        assert peer.store("1.2.3").status == 0
    log.expect("WARNING", "peer=127.0.0.1", "calling=XA1", "refused", "status=0x0124", "option=", "no echo.AllowEcho")


@pytest.fixture(scope="module", params=["0.0.0.0", "::"])
def local(start_gateway: StartGateway, request: pytest.FixtureRequest) -> Gateway:
    """Serves its modalities only, each at its own address only; on "::" an IPv4 peer has an address of IPv4 too."""
    return start_gateway(
        DicomGateway={"BindAddress": request.param},
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
        DicomCheckModalityHost=True,
        DicomModalities={
            "here": ["CT1", "127.0.0.1", 104],
            "away": ["MR1", "192.0.2.1", 104],
            "name": ["US1", "localhost", 104],
            "one": ["RF1", "192.0.2.2", 104],
            "other": {"AET": "RF1", "Host": "127.0.0.1", "Port": 104, "AllowStore": False},
        },
    )


@pytest.mark.parametrize(("calling", "store"), [("CT1", ACCEPTED), ("RF1", USER_REJECTION)])
def test_peer_with_the_address_of_its_entry_is_served(local: Gateway, calling: str, store: int) -> None:
    assert _results(local, calling=calling) == {1: store, 3: ACCEPTED}


@pytest.mark.parametrize(
    ("calling", "option"),
    [("MR1", "DicomModalities.away.Host (192.0.2.1)"), ("US1", "DicomModalities.name.Host (localhost)")],
)
def test_peer_with_another_address_than_its_entry_is_rejected(local: Gateway, calling: str, option: str) -> None:
    log = Log(local)
    assert _rejection(local, calling=calling) == CALLING_NOT_RECOGNIZED
    log.expect("peer=127.0.0.1", f"calling={calling}", "DicomCheckModalityHost is true", f'option="{option} or ')


def test_private_sop_class_is_stored_if_unknown_ones_are_accepted(start_gateway: StartGateway) -> None:
    generous = start_gateway(UnknownSopClassAccepted=True)
    contexts = [
        Context(1, PRIVATE_CLASS),
        Context(3, FIND_PATIENT_STUDY_ONLY),
        Context(5, MR_IMAGE),
        Context(7, "2.25.77"),
    ]
    unsupported = ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert _results(generous, contexts) == {1: ACCEPTED, 3: unsupported, 5: ACCEPTED, 7: ACCEPTED}


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({"AcceptedTransferSyntaxes": [EXPLICIT]}, {EXPLICIT}),
        ({"AcceptedTransferSyntaxes": "1.2.840.10008.1.2"}, {IMPLICIT}),
        ({"AcceptedTransferSyntaxes": ["1.2.840.10008.1.2.4.9?"]}, {JPEG_2000}),
        ({"AcceptedTransferSyntaxes": [IMPLICIT], "RleTransferSyntaxAccepted": True}, {IMPLICIT, RLE}),
        (
            {
                "DeflatedTransferSyntaxAccepted": False,
                "JpegTransferSyntaxAccepted": False,
                "Jpeg2000TransferSyntaxAccepted": False,
                "JpegLosslessTransferSyntaxAccepted": False,
                "Mpeg2TransferSyntaxAccepted": False,
                "RleTransferSyntaxAccepted": False,
            },
            {EXPLICIT, IMPLICIT, BIG_ENDIAN},
        ),
    ],
    ids=["one", "one as text", "wildcard", "one and a boolean", "booleans"],
)
def test_accepted_transfer_syntaxes_are_the_configured_ones(
    start_gateway: StartGateway, options: dict[str, Any], accepted: set[str]
) -> None:
    running = start_gateway(**options)
    known = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG_BASELINE, JPEG_LS, JPEG_2000, RLE, MPEG2)
    contexts = [Context(2 * n + 1, CT_IMAGE, (syntax,)) for n, syntax in enumerate(known)]
    results = _results(running, contexts)
    assert {syntax for context, syntax in zip(contexts, known, strict=True) if results[context.id] == 0} == accepted


def test_rejected_peer_that_keeps_talking_is_closed(strict: Gateway) -> None:
    with RawPeer(strict.dicom_port) as peer:
        peer.send(associate_rq(CONTEXTS) + pdu(4, bytes(50_000)))
        assert [answer.type for answer in peer.ends()] == [A_ASSOCIATE_RJ]
