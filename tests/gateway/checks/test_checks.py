"""`dicom-gateway check`: what a configuration means, in lines for a person, without a change anywhere."""

from pathlib import Path
from typing import Any

import pytest

from gateway.checks.configuration import WITHOUT_EFFECT, describe, without_effect
from gateway.checks.lines import NAMED_CERTIFICATES, Line
from gateway.child import Settings
from gateway.options.orthanc import OrthancOptions
from gateway.options.orthanc_json import ConfigurationError
from tests.conftest import MakeOrthanc
from tests.support.certificates import DAY, NOW, Authority, tls_options
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.spooled import Receiver


def report(tmp_path: Path, **content: Any) -> list[Line]:
    section = {"StateDirectory": str(tmp_path / "state"), **content.pop("DicomGateway", {})}
    settings = Settings({**content, "DicomGateway": section}, str(tmp_path))
    return list(describe(settings, settings.configuration()))


def texts(lines: list[Line]) -> str:
    return "\n".join(line.text for line in lines)


def problems(lines: list[Line]) -> list[str]:
    return [line.text for line in lines if not line.ok]


@pytest.mark.integration
def test_configuration_that_works_is_described_without_a_problem(orthanc: Orthanc, tmp_path: Path) -> None:
    lines = report(tmp_path, DicomAet="GATE", DicomPort=11112, HttpPort=orthanc.http_port)
    assert problems(lines) == []
    assert "AE title GATE, DICOM port 11112 on 0.0.0.0" in texts(lines)
    assert "under any called AE title" in texts(lines)
    assert "unknown AE titles may do: C-ECHO, C-STORE" in texts(lines)
    assert f"Orthanc at {orthanc.url} answers; 4 connections will be used" in texts(lines)
    assert not (tmp_path / "state").exists()


@pytest.mark.integration
def test_permissions_are_named(orthanc: Orthanc, tmp_path: Path) -> None:
    lines = report(
        tmp_path,
        HttpPort=orthanc.http_port,
        DicomAet="GATE",
        DicomCheckCalledAet=True,
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
    )
    assert "only to GATE" in texts(lines)
    assert "unknown AE titles may do: nothing" in texts(lines)


def test_modalities_that_do_not_mean_what_they_say_are_named(tmp_path: Path) -> None:
    said = texts(
        report(
            tmp_path,
            HttpPort=free_port(),
            DicomCheckModalityHost=True,
            DicomAlwaysAllowFindWorklist=True,
            DicomModalities={
                "address": ["A", "192.0.2.1", 104],
                "secret": {"AET": "S", "Host": "192.0.2.2", "Port": 2762, "UseDicomTls": True},
                "name": {"AET": "N", "Host": "ct1.hospital.example", "Port": 104, "AllowNEventReport": False},
            },
        )
    )
    assert "unknown AE titles may do: C-ECHO, C-STORE, worklist queries (nothing fills a worklist)" in said
    assert "modalities are those of Orthanc, asked for every 5 s; until it answers (on its own: besides" in said
    assert "the 3 in this file" in said
    assert "DicomModalities.name: Host is no address: DicomCheckModalityHost refuses this modality" in said
    assert "DicomModalities.name.AllowNEventReport: Orthanc has no such option" in said
    assert "DicomModalities.secret: cannot be called over TLS: DicomTlsTrustedCertificates: expected" in said
    assert "DicomModalities.address" not in said


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "modalities are those of Orthanc, asked for every 5 s"),
        ({"DicomModalitiesInDatabase": True, "DicomModalities": {"a": ["A", "h", 1]}}, "asked for every 5 s"),
        ({"DicomGateway": {"ModalitiesRefresh": 0}}, "modalities are the 0 in this file"),
    ],
)
def test_check_says_which_list_of_modalities_counts(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    (said,) = [one.text for one in report(tmp_path, HttpPort=free_port(), **options) if "modalities" in one.text]
    assert said.endswith(line)


@pytest.mark.integration
def test_what_waits_in_the_spool_is_counted(orthanc: Orthanc, samples: list[Path], tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "state")
    for sample in samples[:3]:
        receiver.ready(sample)
    assert "3 instances wait there for Orthanc" in texts(report(tmp_path, HttpPort=orthanc.http_port))


def test_orthanc_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    port = free_port()
    (problem,) = problems(report(tmp_path, HttpPort=port))
    assert problem.startswith(f"Orthanc at http://127.0.0.1:{port} does not answer: ")
    assert "refused" in problem


@pytest.mark.integration
def test_credentials_are_tried_and_not_told(make_orthanc: MakeOrthanc, tmp_path: Path) -> None:
    server = make_orthanc(AuthenticationEnabled=True, RegisteredUsers={"gateway": "hunter2"})
    server.start()
    right = {"Url": server.url, "Username": "gateway", "Password": "hunter2"}
    lines = report(tmp_path, DicomGateway={"Orthanc": right})
    assert problems(lines) == []
    assert "hunter2" not in texts(lines)
    (problem,) = problems(report(tmp_path, DicomGateway={"Orthanc": {**right, "Password": "wrong-secret"}}))
    assert "401" in problem
    assert "wrong-secret" not in problem


@pytest.mark.integration
def test_options_without_effect_are_named_with_the_reason(orthanc: Orthanc, tmp_path: Path) -> None:
    lines = report(tmp_path, HttpPort=orthanc.http_port, DicomThreadsCount=8, AcceptedSopClasses=[])
    assert "DicomThreadsCount: has no effect here: every association has a thread of its own" in texts(lines)
    assert "AcceptedSopClasses: has no effect here: all storage SOP classes are accepted" in texts(lines)


def test_misspelled_options_of_orthanc_are_named(tmp_path: Path) -> None:
    said = texts(report(tmp_path, DicomCheckCalledAE=True, DicomAet="GATE", DicomThreadsCount=8, Name="DicomPorts"))
    assert "DicomCheckCalledAE: has no effect here, is DicomCheckCalledAet meant?" in said
    assert said.count("meant?") == 1


@pytest.mark.parametrize("plugins", [["plugins/libOrthancPython.so"], ["elsewhere", "plugins/"]])
def test_what_orthanc_needs_to_start_the_gateway_is_looked_for(tmp_path: Path, plugins: list[str]) -> None:
    of_orthanc = {"PythonScript": "/opt/orthanc_glue.py", "Plugins": plugins, "HttpPort": free_port()}
    server, plugin, _rest = problems(report(tmp_path, **of_orthanc))
    assert server.startswith('"DicomServerEnabled" is not false: set it')
    assert plugin.startswith("Plugins: libOrthancPython.so is not there")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "libOrthancPython.so").touch()
    (_rest,) = problems(report(tmp_path, **of_orthanc, DicomServerEnabled=False))
    assert "does not answer" in _rest


def test_state_directory_that_would_be_refused_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    assert any("chmod 700 it" in line for line in problems(report(tmp_path, HttpPort=free_port())))


def test_no_option_is_both_honoured_and_without_effect() -> None:
    honoured = {field.alias for field in OrthancOptions.model_fields.values()}
    assert honoured & WITHOUT_EFFECT.keys() == set()
    assert without_effect({"Name": 1, "DicomPort": 2, "DicomThreadsCount": 3}) == [
        ("DicomThreadsCount", WITHOUT_EFFECT["DicomThreadsCount"])
    ]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_certificates_are_described(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("gateway", not_before=NOW - DAY, not_after=NOW + 400 * DAY)
    lines = report(tmp_path, HttpPort=free_port(), **tls_options(authority, server))
    assert "TLS on the DICOM port, from TLS 1.2 on; peers must have a certificate" in texts(lines)
    (own,) = [line.text for line in lines if line.text.startswith("certificate: ")]
    assert "CN=gateway" in own
    assert own.endswith(f", valid until {NOW + 400 * DAY:%Y-%m-%d}")
    assert "trusted: OU=Testing CA" in texts(lines)
    assert "WARNING" not in texts(lines)
    assert len(problems(lines)) == 1  # Orthanc is not there
    anybody = report(
        tmp_path, HttpPort=free_port(), **tls_options(authority, server, DicomTlsRemoteCertificateRequired=False)
    )
    assert "peers are not asked for one" in texts(anybody)
    assert "trusted: " not in texts(anybody)


@pytest.mark.parametrize(
    ("days", "warning", "problem"),
    [
        ((-9, 31), "", ""),
        ((-9, 12), "WARNING: the certificate {} expires in 11 days", ""),
        ((-9, -1), "", "the certificate {} has expired on "),
        ((1, 99), "", "the certificate {} is not valid before "),
    ],
)
def test_certificate_that_does_not_live_long_is_told(
    authority: Authority, tmp_path: Path, days: tuple[int, int], warning: str, problem: str
) -> None:
    server = authority.issue("gateway", not_before=NOW + days[0] * DAY, not_after=NOW + days[1] * DAY)
    lines = report(tmp_path, HttpPort=free_port(), **tls_options(authority, server))
    (own,) = [line.text for line in lines if line.text.startswith("certificate: ")]
    subject = own.removeprefix("certificate: ").rpartition(", valid until ")[0]
    warnings = [line.text for line in lines if line.text.startswith("WARNING: ")]
    assert warnings == ([warning.format(subject)] if warning else [])
    found = [text for text in problems(lines) if not text.startswith("Orthanc at")]
    assert len(found) == bool(problem)
    assert all(text.startswith(problem.format(subject)) for text in found)


def test_many_trusted_certificates_are_counted(authority: Authority, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes() * (NAMED_CERTIFICATES + 3))
    options = tls_options(authority, authority.issue("gateway"), DicomTlsTrustedCertificates=str(bundle))
    lines = [line.text for line in report(tmp_path, HttpPort=free_port(), **options)]
    assert sum(line.startswith("trusted: OU=") for line in lines) == NAMED_CERTIFICATES
    assert "trusted: 3 more" in lines


def test_certificates_that_are_missing_are_a_problem(authority: Authority, tmp_path: Path) -> None:
    options = tls_options(authority, authority.issue("gateway"), DicomTlsPrivateKey="none.key")
    found = problems(report(tmp_path, HttpPort=free_port(), **options))
    assert f"DicomTlsPrivateKey: {tmp_path}/none.key: No such file or directory" in found


def test_users_are_counted_and_not_named(tmp_path: Path) -> None:
    users = {"Accepted": {"alice": None, "bob": None}}
    lines = report(tmp_path, HttpPort=free_port(), DicomGateway={"Users": users})
    assert "2 users may associate; peers without user identity are refused" in texts(lines)
    lines = report(tmp_path, HttpPort=free_port(), DicomGateway={"Users": {**users, "Required": False}})
    assert "2 users may associate; peers without user identity are accepted" in texts(lines)


def test_password_file_that_is_missing_is_told(tmp_path: Path) -> None:
    section = {"Url": "http://127.0.0.1:1", "Username": "gateway", "PasswordFile": "none"}
    with pytest.raises(ConfigurationError, match="PasswordFile: No such file"):
        report(tmp_path, DicomGateway={"Orthanc": section})


def test_check_says_whether_there_is_a_worklist_and_where_its_files_are(tmp_path: Path) -> None:
    assert "worklist: on" not in texts(report(tmp_path))
    (tmp_path / "there").mkdir()
    said = texts(report(tmp_path, DicomGateway={"Worklist": {"Folders": ["there", "gone"]}}))
    assert f"worklist: on, files of {tmp_path}/there, {tmp_path}/gone" in said
    assert f"worklist: {tmp_path}/gone is not there" in said
    assert f"worklist: {tmp_path}/there is not there" not in said
    said = texts(report(tmp_path, Worklists={"Enable": True, "SaveInOrthancDatabase": True}))
    assert "worklist: on, no folder of files" in said
    assert "Worklists.SaveInOrthancDatabase: what Orthanc keeps there is not served" in said


def test_scripts_inside_orthanc_are_read_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("raise SystemExit")
    (tmp_path / "bad.py").write_text("import\n")
    (tmp_path / "null.py").write_bytes(b"x = 1\0")
    scripts = ["good.py", "bad.py", "null.py", "missing.py"]
    lines = report(tmp_path, HttpPort=free_port(), DicomGateway={"OrthancScripts": scripts})
    assert f"script {tmp_path}/good.py runs inside Orthanc" in texts(lines)
    bad, null, missing = [text for text in problems(lines) if "OrthancScripts" in text]
    assert f"{tmp_path}/bad.py is no Python file: line 1: " in bad
    assert f"{tmp_path}/null.py is no Python file: " in null
    assert f"cannot read {tmp_path}/missing.py: No such file or directory" in missing
