"""Admission: what Orthanc's options allow to whom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.admission import Admission, Refusal, Verb, is_ae_title
from gateway.options.config import parse

PEER: Final = "192.0.2.1"
NOBODY: Final = {verb.always: False for verb in Verb if verb.always}


def admission(**options: Any) -> Admission:
    configuration = parse(options, Path("/"))
    return Admission(configuration.orthanc, configuration.orthanc.dicom_modalities)


def modality(aet: str = "MODALITY", host: str = PEER, **permissions: bool) -> dict[str, Any]:
    return {"AET": aet, "Host": host, "Port": 104, **permissions}


def test_by_default_everybody_may_echo_and_store_to_any_called_ae_title() -> None:
    everybody = admission()
    assert everybody.reject("ANY", "THING", PEER) is None
    assert everybody.permitted("ANY", PEER) == {Verb.ECHO, Verb.STORE}


@pytest.mark.parametrize(
    ("strict", "called", "accepted"),
    [
        (False, "GATE", True),
        (False, "gate", True),
        (False, "OTHER", False),
        (True, "GATE", True),
        (True, "gate", False),
    ],
)
def test_called_ae_title_is_compared_if_it_is_to_be_checked(strict: bool, called: str, accepted: bool) -> None:
    checking = admission(DicomAet="GATE", DicomCheckCalledAet=True, StrictAetComparison=strict)
    rejection = checking.reject("ANY", called, PEER)
    assert (rejection is None) == accepted
    if rejection is not None:
        assert rejection.refusal is Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED
        assert rejection.refusal.value == (1, 7)
        assert rejection.option == "DicomCheckCalledAet"
        assert "GATE" in rejection.explanation
    assert admission(DicomAet="GATE").reject("ANY", called, PEER) is None


@pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "A\nB", "Ä", "A\x7f", "A\0", "\0"])
def test_titles_that_are_none_are_rejected(title: str) -> None:
    calling, called = admission().reject(title, "ORTHANC", PEER), admission().reject("MODALITY", title, PEER)
    assert calling is not None
    assert calling.refusal is Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED
    assert called is not None
    assert called.refusal is Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16))
def test_printable_ascii_is_a_title(title: str) -> None:
    assert is_ae_title(title)


@dataclass(frozen=True)
class Entry:
    """An entry of DicomModalities: the peer's or another host, and the verb that it forbids."""

    host: str
    denies: Verb | None

    def option(self) -> dict[str, Any]:
        return modality(host=self.host, **({self.denies.key: False} if self.denies else {}))


def cases() -> Iterator[tuple[Sequence[Entry], Verb | None, bool]]:
    """No entry, one or two with the peer's AE title; a verb that everybody may do, or none; hosts checked or not."""
    kinds = [Entry(host, denies) for host, denies in product((PEER, "192.0.2.9"), (None, *Verb))]
    entries = [(), *((kind,) for kind in kinds), *combinations_with_replacement(kinds, 2)]
    yield from product(entries, (None, *(verb for verb in Verb if verb.always)), (False, True))


def allows(entries: Sequence[Entry], always: Verb | None, check_host: bool, verb: Verb) -> bool:
    """Orthanc's rule for one verb, with the stricter reading of DicomCheckModalityHost for several entries."""
    if verb is always:
        return True
    if check_host:
        return any(entry.host == PEER and entry.denies is not verb for entry in entries)
    return len(entries) > 0 and all(entry.denies is not verb for entry in entries)


def test_every_permission_of_every_kind_of_peer() -> None:
    seen = 0
    for entries, always, check_host in cases():
        options = {**NOBODY, "DicomCheckModalityHost": check_host}
        if always is not None:
            options[always.always] = True
        modalities = {f"entry {n}": entry.option() for n, entry in enumerate(entries)}
        ours = admission(**options, DicomModalities=modalities)
        expected = {verb for verb in Verb if allows(entries, always, check_host, verb)}
        assert ours.permitted("modality", PEER) == expected, (entries, always, check_host)
        known = any(entry.host == PEER or not check_host for entry in entries)
        rejection = ours.reject("MODALITY", "ORTHANC", PEER)
        assert (rejection is None) == (known or always is not None), (entries, always, check_host)
        assert rejection is None or rejection.refusal.value == (1, 3)
        assert ours.permitted("STRANGER", PEER) == ({always} if always else set())
        assert (ours.reject("STRANGER", "ORTHANC", PEER) is None) == (always is not None)
        seen += 1
    assert seen == (1 + 18 + 171) * 7 * 2


def test_titles_of_modalities_are_compared_exactly_if_told_so() -> None:
    strict = admission(**NOBODY, StrictAetComparison=True, DicomModalities={"m": modality()})
    assert strict.permitted("MODALITY", PEER) == set(Verb)
    assert strict.permitted("modality", PEER) == set()
    assert strict.reject("modality", "ORTHANC", PEER) is not None


@pytest.mark.parametrize(
    ("keys", "denied"),
    [
        ({"AllowStorageCommitment": False}, {Verb.STORAGE_COMMITMENT, Verb.STORAGE_COMMITMENT_REPORT}),
        ({"AllowNAction": False}, {Verb.STORAGE_COMMITMENT}),
        ({"AllowEventReport": False}, {Verb.STORAGE_COMMITMENT_REPORT}),
        (
            {"AllowStorageCommitment": False, "AllowNAction": True, "AllowEventReport": True},
            {Verb.STORAGE_COMMITMENT, Verb.STORAGE_COMMITMENT_REPORT},
        ),
        ({"AllowStorageCommitment": True, "AllowNAction": False}, set()),
    ],
)
def test_storage_commitment_has_three_keys(keys: dict[str, bool], denied: set[Verb]) -> None:
    ours = admission(**NOBODY, DicomModalities={"m": modality(**keys)})
    assert set(Verb) - ours.permitted("MODALITY", PEER) == denied


@pytest.mark.parametrize(
    ("host", "address", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        (" 192.0.2.1 ", "192.0.2.1", True),
        ("192.0.2.10", "192.0.2.1", False),
        ("2001:DB8:0::1", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth1", "fe80::1%eth0", False),
        ("fe80::1", "fe80::1%eth0", True),
        ("fe80::2", "fe80::1%eth0", False),
        ("localhost", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.0.2.0/24", "192.0.2.1", False),
    ],
)
def test_hosts_are_compared_as_addresses_and_never_looked_up(host: str, address: str, same: bool) -> None:
    checking = admission(**NOBODY, DicomCheckModalityHost=True, DicomModalities={"m": modality(host=host)})
    assert (checking.permitted("MODALITY", address) == set(Verb)) == same
    assert (checking.reject("MODALITY", "ORTHANC", address) is None) == same


def test_log_names_the_option_that_would_help() -> None:
    entries = {"one": modality(AllowStore=False), "two": modality(), "away": modality("AWAY", "192.0.2.9")}
    open_hosts = admission(**NOBODY, DicomModalities=entries)
    assert (
        open_hosts.option_for("MODALITY", PEER, Verb.STORE) == "DicomAlwaysAllowStore or DicomModalities.one.AllowStore"
    )
    assert open_hosts.option_for("STRANGER", PEER, Verb.ECHO) == "DicomAlwaysAllowEcho or an entry in DicomModalities"
    assert open_hosts.option_for("STRANGER", PEER, Verb.STORAGE_COMMITMENT) == "an entry in DicomModalities"
    rejection = open_hosts.reject("STRANGER", "ORTHANC", PEER)
    assert rejection is not None
    assert rejection.option == "an entry in DicomModalities"
    checked = admission(**NOBODY, DicomModalities=entries, DicomCheckModalityHost=True)
    where = "DicomModalities.away.Host (192.0.2.9) or DicomCheckModalityHost"
    assert checked.option_for("AWAY", PEER, Verb.ECHO) == f"DicomAlwaysAllowEcho or {where}"
    rejection = checked.reject("AWAY", "ORTHANC", PEER)
    assert rejection is not None
    assert rejection.option == where
