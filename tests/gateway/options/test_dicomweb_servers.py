"""Which DICOMweb servers a configuration has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.options.config import Configuration, parse
from gateway.options.dicomweb_servers import left_out
from gateway.options.orthanc_json import ConfigurationError

URL = "https://pacs.example/dicom-web"


def configuration(section: dict[str, Any], **options: Any) -> Configuration:
    return parse({"DicomGateway": section, **options}, Path("/"))


def test_servers_of_orthanc_are_taken_when_asked_for() -> None:
    servers = {
        "plain": [URL],
        "secret": [URL, "user", "pass"],
        "text": URL,
        "full": {
            "Url": URL,
            "CertificateFile": "a.pem",
            "HttpHeaders": {"X-Token": "t", "Host": "h"},
            "Timeout": 7,
            "HasWadoRsUniversalTransferSyntax": False,
            "ChunkedTransfers": True,
        },
        "a name that is too long": [URL],
        "both": [URL],
    }
    ours = {"both": {"Url": "http://ours"}}
    content = {
        "DicomWeb": {"Enable": True, "Servers": servers},
        "HttpsCACertificates": "/ca.pem",
        "HttpProxy": "proxy:3128",
        "HttpsVerifyPeers": False,
    }
    got = configuration({"DicomWebServers": ours, "UseOrthancDicomWebServers": True}, **content).dicom_web_servers
    assert sorted(got) == ["both", "full", "plain", "secret", "text"]
    assert got["both"].url == "http://ours"
    assert got["secret"].username == "user"
    assert got["secret"].password is not None and got["secret"].password.get_secret_value() == "pass"
    full = got["full"]
    assert (full.client_certificate, full.client_private_key, full.timeout) == ("a.pem", "a.pem", 7.0)
    assert (full.headers, full.wado_any_transfer_syntax) == ({"X-Token": "t"}, False)
    assert (full.ca_file, full.proxy, full.verify_peer) == ("/ca.pem", "http://proxy:3128", False)
    assert left_out(content) == ["a name that is too long"]
    assert sorted(configuration({"DicomWebServers": ours}, **content).dicom_web_servers) == ["both"]


@pytest.mark.parametrize(
    ("entry", "option", "expected"),
    [
        # What the plugin of Orthanc 1.10.1 was seen to take.
        ({"URL": URL}, "url", URL),
        ({"URL": "https://other", "Url": URL}, "url", URL),
        (["pacs.example:8042/dicom-web"], "url", "http://pacs.example:8042/dicom-web"),
        ({"Url": URL, "HasWadoRsUniversalTransferSyntax": "0"}, "wado_any_transfer_syntax", False),
        ({"Url": URL, "HasWadoRsUniversalTransferSyntax": "true"}, "wado_any_transfer_syntax", True),
        ({"Url": URL, "HasWadoRsUniversalTransferSyntax": 0, "HasDelete": 1}, "wado_any_transfer_syntax", False),
        ({"Url": URL, "ChunkedTransfers": "0", "Pkcs11": False, "Else": "x"}, "client_certificate", None),
        ({"Url": URL, "Timeout": 0}, "timeout", 33.0),
    ],
)
def test_each_form_that_orthancs_plugin_takes(entry: Any, option: str, expected: Any) -> None:
    got = configuration({"UseOrthancDicomWebServers": True}, DicomWeb={"Servers": {"a": entry}}, HttpTimeout=33)
    assert getattr(got.dicom_web_servers["a"], option) == expected


def test_an_entry_of_ours_stands_in_for_one_that_the_gateway_cannot_use() -> None:
    servers = {"a": {"Url": URL, "Pkcs11": True}, "a name that is too long": {"Url": URL, "Pkcs11": True}}
    section = {"UseOrthancDicomWebServers": True}
    with pytest.raises(
        ConfigurationError, match=r"DicomWeb\.Servers\.a: Pkcs11: the gateway reads keys from files only"
    ):
        configuration(section, DicomWeb={"Servers": servers})
    ours = {"a": {"Url": URL, "ClientCertificate": "c", "ClientPrivateKey": "k"}}
    got = configuration({**section, "DicomWebServers": ours}, DicomWeb={"Servers": servers}).dicom_web_servers
    assert got["a"].client_certificate == "c"


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"DicomWebServers": {"A": {}}}, "DicomWebServers.A.Url: Field required"),
        ({"DicomWebServers": {"A": {"Url": "ftp://x"}}}, "DicomWebServers.A.Url: expected http:// or https://"),
        ({"DicomWebServers": {"ORTHANC": {"Url": URL}}}, "ORTHANC: the same AE title as DicomAet"),
        ({"DicomWebServers": {"A": {"Url": URL}, "a": {"Url": URL}}}, "DicomWebServers.a: the same AE title as A"),
        ({"DicomWebServers": {"A": {"Url": URL, "Username": "u", "Token": "t"}}}, "expected one of Username, Token"),
        ({"DicomWebServers": {"A": {"Url": URL, "Password": "p"}}}, "Password: expected Username"),
        ({"DicomWebServers": {"A": {"Url": URL, "ClientCertificate": "c"}}}, "expected both or none"),
        ({"DicomWebServers": {"A": {"Url": URL, "Headers": {"Accept": "x"}}}}, "accept is written by the gateway"),
        ({"DicomWebServers": {"A": {"Url": URL, "Headers": {"X": "a\r\nB: c"}}}}, "DicomWebServers.A.Headers.X"),
        ({"DicomWebServers": {"A": {"Url": URL, "OAuth2": {"TokenUrl": URL, "ClientId": "c"}}}}, "ClientSecret"),
        ({"UseOrthancDicomWebServers": True}, "DicomWeb.Servers.bad"),
        ({"MoveDrivers": {"A": "no class"}}, "MoveDrivers.A"),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        configuration(section, DicomWeb={"Servers": {"bad": [URL, "user"]}})


def test_titles_of_servers_are_compared_as_other_ae_titles_are() -> None:
    section = {"DicomWebServers": {"Archive": {"Url": URL}}}
    loose, strict = configuration(section), configuration(section, StrictAetComparison=True)
    assert (loose.server_title("ARCHIVE"), strict.server_title("ARCHIVE")) == ("Archive", None)
    assert loose.server_title("ORTHANC") is None


def test_whether_there_is_an_orthanc() -> None:
    servers = {"DicomWebServers": {"A": {"Url": URL}}}
    assert configuration({}).has_orthanc
    assert not configuration(servers).has_orthanc
    assert configuration({**servers, "Orthanc": {}}).has_orthanc
    assert configuration(servers, PythonScript="/opt/orthanc_glue.py").has_orthanc
    assert parse({"DicomGateway": servers}, Path("/"), in_orthanc=True).has_orthanc
