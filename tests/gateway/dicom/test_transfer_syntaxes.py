"""The accepted transfer syntaxes are those of Orthanc 1.10.1 under the same options."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from gateway.dicom.transfer_syntaxes import BOOLEAN_OPTIONS, PREFERENCE, UNCOMPRESSED, accepted
from gateway.options.config import parse
from tests.conftest import MakeOrthanc
from tests.support.orthanc import Orthanc

LIST = "AcceptedTransferSyntaxes"

# Orthanc lists these two, but they encode no data sets of their own (PS3.5 A.6) and its SCP does not negotiate them.
NOT_NEGOTIATED = {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("transfer_syntaxes"))
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_all_are_transfer_syntaxes_and_none_is_there_twice() -> None:
    assert len(set(PREFERENCE)) == len(PREFERENCE)
    assert all(UID(uid).is_transfer_syntax for uid in PREFERENCE)
    assert PREFERENCE[:2] == UNCOMPRESSED[:2]


@pytest.mark.integration
@pytest.mark.parametrize(
    "patterns",
    [
        ["*"],
        [],
        ["1.2.840.10008.1.*"],
        ["1.2.840.10008.1.2.?"],
        ["1.2.840.10008.1.2.4.*"],
        ["1.2.840.10008.1.2.4.5*", "*.2"],
        ["1.2.840.10008.1.2.4.[57]0"],
        ["1.2.840.10008.1.2.4.5[!0]"],
        ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"],
        ["1.2.3.4"],
        ["1?2*1"],
    ],
    ids=str,
)
def test_lists_and_wildcards_mean_what_they_mean_to_orthanc(server: Orthanc, patterns: list[str]) -> None:
    theirs = server._request("PUT", "/tools/accepted-transfer-syntaxes", data=json.dumps(patterns)).json()
    assert set(accepted({LIST: patterns})) == set(theirs) - NOT_NEGOTIATED


@pytest.mark.integration
@pytest.mark.parametrize(
    "options",
    [
        {},
        {LIST: "1.2.840.10008.1.2.4.*"},
        {LIST: []},
        {LIST: ["1.2.840.10008.1.2"], "RleTransferSyntaxAccepted": True},
        {LIST: ["1.2.840.10008.1.2.4.50"], "JpegTransferSyntaxAccepted": False},
        *({option: False} for option in BOOLEAN_OPTIONS),
        {LIST: ["1.2.840.10008.1.2"], **dict.fromkeys(BOOLEAN_OPTIONS, True)},
        dict.fromkeys(BOOLEAN_OPTIONS, False),
    ],
    ids=str,
)
def test_options_mean_what_they_mean_to_orthanc(make_orthanc: MakeOrthanc, options: dict[str, Any]) -> None:
    server = make_orthanc(**options)
    server.start()
    theirs = server.get("/tools/accepted-transfer-syntaxes")
    ours = parse(options, Path("/")).transfer_syntaxes
    assert set(ours) == set(theirs) - NOT_NEGOTIATED
    assert list(ours) == [uid for uid in PREFERENCE if uid in theirs]


@given(
    st.lists(st.text("*?.0123456789[]!-", max_size=22), max_size=4),
    st.dictionaries(st.sampled_from(list(BOOLEAN_OPTIONS)), st.booleans() | st.none()),
)
def test_order_is_always_that_of_preference(patterns: list[str], booleans: dict[str, bool | None]) -> None:
    chosen = accepted({LIST: patterns, **booleans})
    assert list(chosen) == [uid for uid in PREFERENCE if uid in chosen]
    for option, group in BOOLEAN_OPTIONS.items():
        if booleans.get(option) is not None:
            assert all((uid in chosen) == booleans[option] for uid in group)
