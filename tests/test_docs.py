"""What the documents say about options, statuses, verdicts and commands is what the code does."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydicom.datadict import dictionary_description
from typer import Typer

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, cli
from gateway.checks.configuration import WITHOUT_EFFECT
from gateway.commands import commitment, hl7, hl7_outbox, mpps, quota, worklist
from gateway.dicom.transfer_syntaxes import PREFERENCE
from gateway.forwarding import verdicts
from gateway.forwarding.verdicts import Reply, Verdict
from gateway.hl7_character_sets import find_codec
from gateway.matching.attributes import name_of, vr_of
from gateway.options.dicomweb import DicomWebServerSection, OAuth2Section
from gateway.options.gateway import ForwardingSection, GatewaySection, LogSection, OrthancSection, UsersSection
from gateway.options.hl7 import Hl7Section
from gateway.options.hl7_receivers import ReceiverSection
from gateway.options.orders import StationRule
from gateway.options.orthanc import Modality, OrthancOptions
from gateway.options.script import ScriptOptions
from gateway.options.storage_commitment import StorageCommitmentSection
from gateway.options.worklist import ExpirySection, OrthancWorklists, WorklistSection
from gateway.quotas.options import QuotaRule, QuotasSection
from gateway.script_host.api.catalogue import NOT_OFFERED, ONLY_IN_ORTHANC
from gateway.tls.policy import RECOMMENDED, SUITES
from scp.contexts import STORAGE_CLASSES
from scp.statuses import Status
from scp.tls_connection import REASONS
from worklist import matching_keys
from worklist.feedback.message import ORDER_STATUS
from worklist.hl7.errors import MEANINGS

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION: Final = ROOT / "docs" / "configuration.md"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
CONFORMANCE: Final = ROOT / "docs" / "conformance.md"
SCRIPTS: Final = ROOT / "docs" / "scripts.md"
HL7: Final = ROOT / "docs" / "hl7.md"

ROOMS: Final = (
    "storage_commitment",
    "scp",
    "gateway",
    "gateway/access",
    "gateway/checks",
    "gateway/commands",
    "gateway/dicom",
    "gateway/options",
    "gateway/supervisor",
    "gateway/tls",
    "gateway/forwarding",
    "gateway/matching",
    "gateway/archive",
    "gateway/dicomweb",
    "gateway/archive/index",
    "gateway/moves",
    "gateway/script_host",
    "gateway/script_host/api",
    "gateway/quotas",
    "gateway/migrations",
    "worklist",
    "worklist/feedback",
    "worklist/hl7",
    "worklist/performed",
    "worklist/orders",
)

# Which section of configuration.md describes which model.
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "### `DicomGateway`": GatewaySection,
    "### `DicomGateway.Forwarding`": ForwardingSection,
    "### `DicomGateway.ScriptOptions`": ScriptOptions,
    "### `DicomGateway.Quotas`": QuotasSection,
    "### A rule of `DicomGateway.Quotas`": QuotaRule,
    "### `DicomGateway.Worklist`": WorklistSection,
    "### `DicomGateway.Worklist.Expiry`": ExpirySection,
    "### `DicomGateway.Hl7`": Hl7Section,
    "### A rule of `DicomGateway.Hl7.StationRules`": StationRule,
    "### A receiver of `DicomGateway.Hl7.Receivers`": ReceiverSection,
    "### `DicomGateway.StorageCommitment`": StorageCommitmentSection,
    "### `DicomGateway.Orthanc`": OrthancSection,
    "### An entry of `DicomGateway.DicomWebServers`": DicomWebServerSection,
    "### `OAuth2`": OAuth2Section,
    "### `DicomGateway.Log`": LogSection,
    "### `DicomGateway.Users`": UsersSection,
    "## Options of Orthanc": OrthancOptions,
    "### An entry of `DicomModalities`": Modality,
    "### The section `Worklists`": OrthancWorklists,
}


def section(document: Path, heading: str) -> str:
    """The text under `heading`, up to the next heading."""
    text = document.read_text()
    assert f"\n{heading}\n" in text, f"{document.name} has no {heading!r}"
    return re.split(r"\n#+ ", text.split(f"\n{heading}\n", 1)[1])[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of the tables in `text`, without their heads."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) == {"-"}]
    heads = {number - 1 for number in rules} | set(rules)
    return [row for number, row in enumerate(cells) if number not in heads]


def shown(field: Any) -> str:
    """How configuration.md writes the default of a field."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        return ""
    if default is None:
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f"`{json.dumps(default)}`"


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_option_stands_in_configuration_with_its_default(heading: str) -> None:
    fields = SECTIONS[heading].model_fields.values()
    expected = {f"`{field.alias}`": shown(field) for field in fields}
    described = {row[0]: row[2] for row in rows(section(CONFIGURATION, heading))}
    assert described == expected


def test_options_without_effect_are_those_of_check() -> None:
    described = {row[0].strip("`"): row[1] for row in rows(section(CONFIGURATION, "## Options without effect"))}
    assert described == dict(WITHOUT_EFFECT)


def test_example_of_configuration_is_valid_and_means_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = section(CONFIGURATION, "## `dicom-gateway check`")
    example, output = (block for block in indented_blocks(text) if block.startswith(("{", "$")))
    file = tmp_path / "gateway.json"
    file.write_text(example)
    with pytest.raises(SystemExit):
        cli.app(["check", str(file)])
    printed = capsys.readouterr().out.splitlines()
    described = output.splitlines()[1:]
    # The last line is about whether an Orthanc answers, the state directory about what is there, and whose it is.
    here = ("wait there", "PROBLEM: /srv/dicom-gateway: ")
    assert [line for line in printed[:-1] if not any(text in line for text in here)] == described[:-1]
    assert "Orthanc at http://127.0.0.1:8042" in described[-1]


def indented_blocks(text: str) -> Iterator[str]:
    """The code blocks of `text`, without their indentation."""
    for block in re.findall(r"(?:(?:    .*)?\n)+", text):
        code = "\n".join(line[4:] for line in block.splitlines()).strip("\n")
        if code:
            yield code


def test_statuses_of_conformance_are_those_of_the_code() -> None:
    described = [tuple(row[:3]) for row in rows(section(CONFORMANCE, "### Statuses"))]
    assert described == [(f"0x{s.code:04X}", s.value.name, s.value.source) for s in Status]


def test_worklist_attributes_of_conformance_are_those_of_the_code() -> None:
    def expected(attributes: matching_keys.Attributes, above: str = "") -> Iterator[list[str]]:
        for tag, attribute in sorted(attributes.items()):
            what = "matched" if attribute.is_matched else "returned"
            yield [f"{above}{name_of(tag)}", dictionary_description(tag), vr_of(tag), what]
            yield from expected(attribute.items, f"{above}> ")

    described = [row for row in rows(section(CONFORMANCE, "### Modality Worklist")) if row[0].lstrip("> ")[0] == "("]
    assert described == list(expected(matching_keys.ATTRIBUTES))


def test_transfer_syntaxes_of_conformance_are_in_the_order_of_preference() -> None:
    assert tuple(row[0] for row in rows(section(CONFORMANCE, "### Transfer syntaxes"))) == PREFERENCE


def test_storage_classes_of_conformance_are_those_of_the_code() -> None:
    described = [row[0] for row in rows(section(CONFORMANCE, "## Storage SOP classes"))]
    assert sorted(described) == sorted(STORAGE_CLASSES)
    assert f"| Storage | {len(STORAGE_CLASSES)} SOP classes" in CONFORMANCE.read_text()


def test_implementation_of_conformance_is_that_of_the_code() -> None:
    described = [row[1] for row in rows(section(CONFORMANCE, "### Implementation identification"))]
    assert described == [IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME]


def described_verdicts() -> tuple[dict[str, str], dict[str, str]]:
    """operations.md's two tables: verdict to meaning, Orthanc's answer to verdict."""
    table = rows(section(OPERATIONS, "## What Orthanc's answers mean"))
    names = {verdict.name for verdict in Verdict}
    return (
        {row[0]: row[1] for row in table if row[0] in names},
        {row[0]: row[1] for row in table if row[0] not in names},
    )


def test_every_verdict_is_explained() -> None:
    assert described_verdicts()[0].keys() == {verdict.name for verdict in Verdict}


def test_verdicts_of_operations_are_those_of_the_code() -> None:
    expected = {f'`"Status": "{status}"`': verdict.name for status, verdict in verdicts.STORE_STATUSES.items()}
    expected |= {f"`OrthancStatus` {code}, {name}": "REFUSED" for code, name in verdicts.REFUSALS.items()}
    expected |= {f"`OrthancStatus` {code}, {n}": verdict.name for code, (n, verdict) in verdicts.TROUBLES.items()}
    statuses = ", ".join(map(str, sorted(verdicts.SERVER_ERRORS_OF_THE_PATH)))
    expected[f"HTTP {statuses}"] = "HOLD"
    others = {answer: verdict for answer, verdict in described_verdicts()[1].items() if answer not in expected}
    assert {answer: described_verdicts()[1].get(answer) for answer in expected} == expected
    assert others.pop('any other `"Status"`, or an answer that is not Orthanc\'s') == "HOLD"
    assert others.pop("any other HTTP status from 500 on") == "RETRY"
    assert others.pop("any other HTTP status: 401, 403, 404, 407, 413, 429, ...") == "HOLD"
    assert others.pop("no answer: connection refused, broken, timed out") == "HOLD"
    assert not others


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (Reply(200, b'{"Status": "Surprise"}'), Verdict.HOLD),
        (Reply(200, b"<html>"), Verdict.HOLD),
        *((Reply(status), Verdict.HOLD) for status in (301, 401, 403, 404, 407, 413, 429, 502, 503, 504)),
        *((Reply(status), Verdict.RETRY) for status in (500, 501, 507)),
    ],
)
def test_rows_of_operations_that_are_in_no_table_of_the_code(reply: Reply, verdict: Verdict) -> None:
    assert verdicts.judge(reply).verdict is verdict


def test_reasons_of_failed_handshakes_are_explained() -> None:
    explained = {row[0].strip("`") for row in rows(section(OPERATIONS, "## TLS handshake fails"))}
    assert set(REASONS.values()) <= explained


def test_cipher_suites_of_configuration_are_those_of_the_code() -> None:
    described = [
        (row[0].strip("`"), row[1].strip("`")) for row in rows(section(CONFIGURATION, "### Versions and cipher suites"))
    ]
    recommended = [suite for suite in SUITES.items() if suite[1] in RECOMMENDED]
    assert described == recommended + [suite for suite in SUITES.items() if suite not in recommended]


def test_functions_of_scripts_are_those_of_the_module() -> None:
    described = {row[0].strip("`"): row[1:] for row in rows(section(SCRIPTS, "### Functions"))}
    stub = ast.parse((ROOT / "gateway" / "script_host" / "orthanc.pyi").read_text())
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    expected = dict.fromkeys(functions - ONLY_IN_ORTHANC.keys(), "offered")
    expected |= dict.fromkeys(ONLY_IN_ORTHANC, "inside Orthanc only") | dict.fromkeys(NOT_OFFERED, "not offered")
    assert {name: row[0] for name, row in described.items()} == expected
    for name, text in (NOT_OFFERED | ONLY_IN_ORTHANC).items():
        assert described[name][1] == text


def test_error_codes_of_hl7_are_those_of_the_code() -> None:
    described = {int(row[0]): row[1] for row in rows(section(HL7, "### Error codes"))}
    assert described == {code.value: meaning for code, meaning in MEANINGS.items()}


def test_order_statuses_of_hl7_are_those_of_the_code() -> None:
    assert dict(rows(section(HL7, "#### ORC-5"))) == {status.value: code for status, code in ORDER_STATUS.items()}


def test_character_sets_of_hl7_are_known() -> None:
    for row in rows(section(HL7, "## Character sets")):
        names = re.findall(r"`([^`]+)`", row[0] + row[1])
        assert len({find_codec([name]) for name in names if "8859" not in row[0] and "125" not in row[0]}) <= 1
        assert None not in {find_codec([name]) for name in names}


def test_callbacks_inside_orthanc_of_scripts_are_those_of_the_code() -> None:
    # Not imported: it needs Orthanc's module.
    tables = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse((ROOT / "orthanc_scripts.py").read_text()).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id in ("DICOM_CALLBACKS", "NOTIFICATIONS", "DECISIONS")
    }
    described = {row[0].strip("`"): row[1] for row in rows(section(SCRIPTS, "## Inside Orthanc"))}
    assert described.pop("RegisterRestCallback")
    assert set(described) == {name for table in tables.values() for name in table}
    assert {name for name, text in described.items() if "ignored" in text} == set(tables["DICOM_CALLBACKS"])
    assert {name for name, text in described.items() if "each is called" in text} == set(tables["NOTIFICATIONS"])


def code_of(document: Path) -> str:
    """All that is code in a document: indented lines and what stands in backquotes."""
    text = document.read_text()
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return "\n".join(lines + re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_of_the_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", code_of(document)))
    assert named <= targets


def commands_of(app: Typer) -> set[str]:
    """The names of the commands of `app`, without those of its groups."""
    return {
        command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")
        for command in app.registered_commands
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_the_documents_exist(document: Path) -> None:
    code = code_of(document)
    groups = {
        "queue": cli.queue,
        "quota": quota.app,
        "worklist": worklist.app,
        "hl7": hl7.app,
        "mpps": mpps.app,
        "commitment": commitment.app,
    }
    assert set(re.findall(r"dicom-gateway ([a-z-]+)\b", code)) <= commands_of(cli.app) | groups.keys()
    for group, app in groups.items():
        of_groups = {"outbox"} if group == "hl7" else set()
        assert set(re.findall(rf"dicom-gateway {group} ([a-z]+)\b", code)) <= commands_of(app) | of_groups
    assert set(re.findall(r"hl7 outbox ([a-z]+)\b", code)) <= commands_of(hl7_outbox.app)


def anchors(document: Path) -> set[str]:
    """The anchors that a document's headings make."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_files_that_architecture_names_exist_and_all_are_named() -> None:
    text = section(ROOT / "docs" / "architecture.md", "## The rooms")
    named = set(re.findall(r"\b([a-z_0-9]+\.py)\b", text))
    files = {path.name for room in ROOMS for path in (ROOT / room).glob("*.py")}
    files |= {path.name for path in ROOT.glob("*.py")}
    assert named == {name for name in files if not name.startswith("__")}
