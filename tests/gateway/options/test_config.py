"""The configuration: Orthanc's options as Orthanc means them, ours checked, and no secret in what is said."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.modalities import configured_modalities
from gateway.options import config
from gateway.options.config import Configuration, parse
from gateway.options.orthanc import OrthancOptions
from gateway.options.orthanc_json import ConfigurationError, read_configuration
from tests.conftest import MakeOrthanc
from tests.support.orthanc import ORTHANC

BASE = Path("/etc/orthanc")


def gateway(section: dict[str, Any]) -> Configuration:
    return parse({"DicomGateway": section}, BASE)


def refusal(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(content, BASE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_configuration_has_orthancs_defaults() -> None:
    configuration = parse({}, BASE)
    assert configuration.orthanc.dicom_port == 4242
    assert configuration.gateway.forwarding.batch_size == 20
    assert len(configuration.transfer_syntaxes) > 30


@pytest.mark.integration
def test_defaults_and_names_are_those_of_orthancs_sample_configuration(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    subprocess.run([ORTHANC, f"--config={sample}"], capture_output=True, timeout=60, check=True)
    content = read_configuration(sample, {})
    defaults = OrthancOptions().model_dump(by_alias=True)
    # The sample says what a missing list means; ours differs on purpose in the length of a PDU.
    different = {"AcceptedTransferSyntaxes", "MaximumPduLength"}
    for option in defaults.keys() & content.keys() - different:
        assert content[option] == defaults[option], option
    # No sample has the booleans that came before the list, paths that have no default, what came with 1.12.4, and the
    # section of a plugin.
    missing = {name for name in defaults if name.endswith("TransferSyntaxAccepted")}
    missing |= {"DicomTlsCertificate", "DicomTlsPrivateKey", "DicomTlsTrustedCertificates"}
    missing |= {"DicomTlsMinimumProtocolVersion", "DicomTlsCiphersAccepted", "Worklists"}
    assert defaults.keys() - content.keys() == missing
    configuration = parse(content, BASE)
    assert configuration.transfer_syntaxes == parse({}, BASE).transfer_syntaxes


@pytest.mark.integration
@pytest.mark.skipif(
    not all(os.access(file, os.R_OK) for file in BASE.glob("*.json")), reason="only Orthanc's group may read it"
)
def test_configuration_of_debians_orthanc_is_accepted() -> None:
    content = read_configuration(BASE, os.environ)
    assert parse(content, BASE).orthanc.dicom_aet == content["DicomAet"]


SECRET = "hunter2"

WRONG = [
    ({"DicomGateway": {"Spoool": SECRET}}, "DicomGateway.Spoool: unknown option"),
    ({"DicomGateway": {"workers": 2}}, "DicomGateway.workers: unknown option, is Workers meant?"),
    (
        {"DicomGateway": {"Forwarding": {"Transprot": "Http"}}},
        "Forwarding.Transprot: unknown option, is Transport meant?",
    ),
    ({"DicomGateway": {"Hl7": {"StationRules": [{"AeTitle": "A"}]}}}, "0.AeTitle: unknown option, is AETitle meant?"),
    (
        {"DicomGateway": {"DicomWebServers": {"A": {"Pasword": SECRET}}}},
        "A.Pasword: unknown option, is Password meant?",
    ),
    ({"DicomGateway": {"Orthanc": {"Passwort": SECRET}}}, "DicomGateway.Orthanc.Passwort: unknown option"),
    ({"DicomGateway": []}, "DicomGateway: expected an object"),
    ({"DicomGateway": {"Log": 5}}, "DicomGateway.Log: expected an object"),
    ({"DicomGateway": {"Workers": "4"}}, "DicomGateway.Workers: expected a valid integer"),
    ({"DicomGateway": {"Workers": -1}}, "DicomGateway.Workers: expected greater than or equal to 0"),
    ({"DicomGateway": {"StateDirectory": None}}, "DicomGateway.StateDirectory: expected a valid string"),
    ({"DicomGateway": {"Forwarding": {"Transport": "Ftp"}}}, "Forwarding.Transport: expected 'Plugin' or 'Http'"),
    ({"DicomGateway": {"Forwarding": {"Connections": 0}}}, "Forwarding.Connections: expected greater than or equal"),
    ({"DicomGateway": {"Forwarding": {"Connections": True}}}, "Forwarding.Connections: expected a valid integer"),
    ({"DicomGateway": {"Forwarding": {"Timeout": 0}}}, "Forwarding.Timeout: expected greater than 0"),
    ({"DicomGateway": {"Forwarding": {"GiveUpAfter": "1h"}}}, "Forwarding.GiveUpAfter: expected a valid number"),
    ({"DicomGateway": {"Forwarding": {"KeepDelivered": -1}}}, "KeepDelivered: expected greater than or equal to 0"),
    ({"DicomGateway": {"Forwarding": {"MaximumRetryDelay": 0.5}}}, "MaximumRetryDelay: expected at least Minimum"),
    ({"DicomGateway": {"Acknowledge": "Later"}}, "DicomGateway.Acknowledge: expected 'Spooled' or 'Stored'"),
    ({"DicomGateway": {"Acknowledge": {"CT1": "Later"}}}, "Acknowledge.CT1: expected 'Spooled' or 'Stored'"),
    ({"DicomGateway": {"Acknowledge": {"A" * 17: "Stored"}}}, "expected an AE title of 1 to 16"),
    ({"DicomGateway": {"Log": {"Level": "info"}}}, "Log.Level: expected 'ERROR', 'WARNING', 'INFO' or 'DEBUG'"),
    ({"DicomGateway": {"Orthanc": {"Url": f"ftp://a:{SECRET}@h"}}}, "Orthanc.Url: expected http:// or https://"),
    ({"DicomGateway": {"Orthanc": {"Password": [SECRET]}}}, "Orthanc.Password: expected a valid string"),
    ({"DicomGateway": {"Orthanc": {"Password": SECRET, "PasswordFile": "f"}}}, "expected either Password or PasswordF"),
    ({"DicomGateway": {"Orthanc": {"Username": {SECRET: 1}}}}, "Orthanc.Username: expected a valid string"),
    ({"DicomGateway": {"AllowedHosts": ["10.0.0.1", SECRET]}}, "AllowedHosts.1: expected an IP address, or a network"),
    ({"DicomGateway": {"AllowedHosts": ["10.0.0.1/8"]}}, "AllowedHosts.0: expected the address of a network"),
    ({"DicomGateway": {"AllowedHosts": [10]}}, "AllowedHosts.0: expected a valid string"),
    ({"DicomGateway": {"AllowedHosts": "10.0.0.1"}}, "DicomGateway.AllowedHosts: expected a valid list"),
    ({"DicomGateway": {"AllowedHosts": []}}, "DicomGateway.AllowedHosts: List should have at least 1 item"),
    ({"DicomGateway": {"MaximumAssociations": 0}}, "MaximumAssociations: expected greater than or equal to 1"),
    ({"DicomGateway": {"MaximumAssociationsPerPeer": -1}}, "PerPeer: expected greater than or equal to 0"),
    ({"DicomPort": "4242"}, "DicomPort: expected a valid integer"),
    ({"DicomPort": 0}, "DicomPort: expected greater than or equal to 1"),
    ({"DicomPort": 65536}, "DicomPort: expected less than or equal to 65535"),
    ({"DicomAet": ""}, "DicomAet: expected an AE title of 1 to 16 printable ASCII characters"),
    ({"DicomAet": 5}, "DicomAet: expected a valid string"),
    ({"DicomCheckCalledAet": "true"}, "DicomCheckCalledAet: expected a valid boolean"),
    ({"MaximumPduLength": 4095}, "MaximumPduLength: expected greater than or equal to 4096"),
    ({"MaximumPduLength": 131073}, "MaximumPduLength: expected less than or equal to 131072"),
    ({"DicomScpTimeout": -1}, "DicomScpTimeout: expected greater than or equal to 0"),
    (
        {"AcceptedTransferSyntaxes": {"a": 1}},
        "AcceptedTransferSyntaxes: expected a valid string, or expected a valid l",
    ),
    ({"AcceptedTransferSyntaxes": ["1.2", 5]}, "AcceptedTransferSyntaxes.1: expected a valid string"),
    ({"DicomModalities": {"ct": ["CT1", "host"]}}, "DicomModalities.ct: expected [AET, Host, Port]"),
    ({"DicomModalities": {"ct": ["CT1", "host", 0]}}, "DicomModalities.ct.Port: expected greater than or equal to 1"),
    ({"DicomModalities": {"ct": ["CT1", "host", "dicom"]}}, "DicomModalities.ct.Port: expected a valid integer"),
    ({"DicomModalities": {"ct": {"AET": "CT1", "Port": 104}}}, "DicomModalities.ct.Host"),
    ({"DicomModalities": {"ct": {"AET": "A\\B", "Host": "h", "Port": 1}}}, "DicomModalities.ct.AET: expected an AE"),
    ({"DicomModalities": ["ct"]}, "DicomModalities: expected an object"),
]


@pytest.mark.parametrize(("content", "message"), WRONG, ids=[message[:60] for _content, message in WRONG])
def test_mistake_is_told_by_its_path_and_never_its_value(content: dict[str, Any], message: str) -> None:
    said = refusal(content)
    assert message in said
    assert SECRET not in said
    assert "pydantic" not in said.lower()


def test_all_mistakes_are_told_at_once() -> None:
    said = refusal({"DicomPort": 0, "DicomAet": "", "DicomGateway": {"A": 1, "Log": {"B": 2}}})
    for path in ("DicomPort", "DicomAet", "DicomGateway.A", "DicomGateway.Log.B"):
        assert f"{path}: " in said


def test_options_of_orthanc_that_the_gateway_does_not_know_are_orthancs_own() -> None:
    assert parse({"Name": 5, "StorageDirectory": [], "Whatever": {"x": 1}}, BASE).orthanc == OrthancOptions()


def test_password_is_in_no_representation() -> None:
    configuration = gateway({"Orthanc": {"Url": "http://h:1", "Username": "u", "Password": SECRET}})
    section = configuration.gateway.orthanc
    assert section is not None
    assert SECRET not in repr(configuration) + str(configuration) + repr(configuration.model_dump())
    assert config.password(section, configuration) == SECRET


def test_password_comes_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("päss word\r\n")
    configuration = parse({"DicomGateway": {"Orthanc": {"PasswordFile": "secret"}}}, tmp_path)
    section = configuration.gateway.orthanc
    assert section is not None
    assert config.password(section, configuration) == "päss word"
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigurationError, match=r"^DicomGateway\.Orthanc\.PasswordFile: No such file"):
        config.password(section, configuration)


def test_password_comes_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text('{"DicomGateway": {"Orthanc": {"Password": "${GATEWAY_PASSWORD}"}}}')
    configuration = parse(read_configuration(path, {"GATEWAY_PASSWORD": SECRET}), tmp_path)
    section = configuration.gateway.orthanc
    assert section is not None
    assert config.password(section, configuration) == SECRET


def test_no_password_is_none() -> None:
    configuration = gateway({"Orthanc": {}})
    assert configuration.gateway.orthanc is not None
    assert config.password(configuration.gateway.orthanc, configuration) is None


def test_paths_are_relative_to_the_configuration() -> None:
    assert gateway({"StateDirectory": "state"}).state_directory == BASE / "state"
    assert gateway({"StateDirectory": "../state"}).state_directory == Path("/etc/state")
    assert gateway({"StateDirectory": "/srv/state"}).state_directory == Path("/srv/state")


@pytest.mark.parametrize(
    ("entry", "echo", "store"),
    [
        (["CT1", "host", 104], True, True),
        (["CT1", "host", "104"], True, True),
        (["CT1", "host", 104, "GE"], True, True),
        ({"AET": "CT1", "Host": "host", "Port": 104}, True, True),
        ({"AET": " CT1 ", "Host": "host", "Port": "104", "AllowStore": False, "Timeout": 5}, True, False),
        ({"AET": "CT1", "Host": "host", "Port": 104, "AllowEcho": False, "Manufacturer": "GE"}, False, True),
    ],
    ids=str,
)
def test_modalities_in_array_and_object_form(entry: Any, echo: bool, store: bool) -> None:
    modality = parse({"DicomModalities": {"ct": entry}}, BASE).orthanc.dicom_modalities["ct"]
    assert (modality.ae_title, modality.host, modality.port) == ("CT1", "host", 104)
    assert (modality.allow_echo, modality.allow_store) == (echo, store)


@pytest.mark.integration
def test_modalities_are_those_that_orthanc_reads(make_orthanc: MakeOrthanc) -> None:
    entries = {
        "array": ["CT1", "host1", 104],
        "text": ["CT2", "host2", "105"],
        "manufacturer": ["CT3", "host3", 106, "GE"],
        "object": {"AET": "CT4", "Host": "host4", "Port": 107, "AllowStore": False},
        "port-as-text": {"AET": "CT5", "Host": "host5", "Port": "108", "AllowEcho": False},
        "full": {
            "AET": "CT6",
            "Host": "host6",
            "Port": 109,
            "Manufacturer": "Vitrea",
            **{f"Allow{service}": False for service in ("Find", "FindWorklist", "Get", "Move", "Transcoding")},
            "LocalAet": "US",
            "Timeout": 7,
        },
        "commitment": {"AET": "CT7", "Host": "host7", "Port": 1, "AllowStorageCommitment": False, "AllowNAction": True},
        "request": {"AET": "CT8", "Host": "host8", "Port": 1, "AllowNAction": False},
        "report": {"AET": "CT9", "Host": "host9", "Port": 1, "AllowEventReport": False},
    }
    server = make_orthanc(DicomModalities=entries)
    server.start()
    ours = configured_modalities(parse({"DicomModalities": entries}, BASE))
    theirs = server.get("/modalities?expand")
    assert ours.keys() == theirs.keys()
    for name, modality in ours.items():
        keys = modality.model_dump(by_alias=True, exclude={"allow_storage_commitment"})
        assert keys | {"LocalAet": keys["LocalAet"] or ""} == theirs[name]


@given(st.text(max_size=20))
def test_ae_titles_are_printable_ascii_without_padding(title: str) -> None:
    stripped = title.strip(" ")
    valid = 1 <= len(stripped) <= 16 and all(" " <= c <= "~" and c != "\\" for c in stripped)
    if valid:
        assert parse({"DicomAet": title}, BASE).orthanc.dicom_aet == stripped
    else:
        assert refusal({"DicomAet": title}).startswith("DicomAet: expected an AE title")


@pytest.mark.parametrize(
    ("acknowledge", "strict", "stored"),
    [
        ("Spooled", False, set()),
        ("Stored", False, {"PACS", "pacs", "CT1"}),
        ({"PACS": "Stored", "CT1": "Spooled"}, False, {"PACS", "pacs"}),
        ({" pacs ": "Stored"}, False, {"PACS", "pacs"}),
        ({"PACS": "Stored"}, True, {"PACS"}),
        ({}, False, set()),
    ],
    ids=["spooled", "stored", "for two", "padded", "strict", "none"],
)
def test_acknowledge_may_depend_on_the_calling_ae_title(acknowledge: Any, strict: bool, stored: set[str]) -> None:
    configuration = parse({"StrictAetComparison": strict, "DicomGateway": {"Acknowledge": acknowledge}}, BASE)
    assert {title for title in ("PACS", "pacs", "CT1") if configuration.acknowledges_when_stored(title)} == stored


def test_workers_are_one_per_core_but_four_at_most() -> None:
    assert 1 <= gateway({}).workers <= 4
    assert gateway({"Workers": 9}).workers == 9


@pytest.mark.parametrize(("threads", "wanted", "connections"), [(50, 4, 4), (50, 64, 16), (6, 4, 2), (2, 4, 1)])
def test_connections_leave_two_thirds_of_orthancs_threads(threads: int, wanted: int, connections: int) -> None:
    content = {"HttpThreadsCount": threads, "DicomGateway": {"Forwarding": {"Connections": wanted}}}
    assert parse(content, BASE).connections == connections


def test_transfer_syntax_options_reach_the_list() -> None:
    only = parse({"AcceptedTransferSyntaxes": "1.2.840.10008.1.2.5"}, BASE)
    assert only.transfer_syntaxes == ("1.2.840.10008.1.2.5",)
    assert parse({"AcceptedTransferSyntaxes": []}, BASE).transfer_syntaxes == ()
    without = parse({"RleTransferSyntaxAccepted": False}, BASE)
    assert "1.2.840.10008.1.2.5" not in without.transfer_syntaxes


@pytest.mark.parametrize("rest", ["u:s3cret@host:port/db", "u:s3cret", "u:s3cret@[::1/db"])
def test_the_address_of_a_database_that_cannot_be_read_is_not_told_in_the_words_of_its_password(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="expected postgresql") as caught:
        parse({"DicomGateway": {"Database": f"postgresql+psycopg://{rest}"}}, Path("/"), in_orthanc=False)
    assert "s3cret" not in str(caught.value)
