"""Orthanc's JSON: read as Orthanc itself reads it, with comments, variables and folders of files."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.options.orthanc_json import (
    MAXIMUM_FILE_BYTES,
    ConfigurationError,
    parse_json,
    read_configuration,
    strip_comments,
    substitute_variables,
)
from tests.support.orthanc import ORTHANC, PYTHON_PLUGIN

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.text('/*"\\\n x,]}', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.text('/*"\\', max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
LINE_COMMENTS = st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=8).map("//{}\n".format)
BLOCK_COMMENTS = (
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda text: "*/" not in text).map("/*{}*/".format)
)
NOTHING = st.just("")
# "/*/" is no comment, and "/**/" is one.
FILLERS = (
    NOTHING | LINE_COMMENTS | BLOCK_COMMENTS.filter(lambda text: text != "/*/") | st.sampled_from([" ", "\n", "\t"])
)


def tokens(value: Any) -> list[str]:
    """The JSON of `value`, cut between its tokens."""
    if isinstance(value, dict):
        pairs = [[json.dumps(key), ":", *tokens(inner)] for key, inner in value.items()]
        return ["{", *_separated(pairs), "}"]
    if isinstance(value, list):
        return ["[", *_separated([tokens(inner) for inner in value]), "]"]
    return [json.dumps(value, ensure_ascii=False)]


def _separated(parts: list[list[str]]) -> list[str]:
    return [token for number, part in enumerate(parts) for token in [*([","] if number else []), *part]]


@given(JSON, st.data())
def test_comments_between_tokens_change_no_value(value: Any, data: st.DataObject) -> None:
    text = "".join(data.draw(FILLERS) + token for token in tokens(value)) + data.draw(FILLERS)
    assert json.loads(strip_comments(text)) == value
    assert parse_json(text) == value
    assert strip_comments(text).count("\n") == text.count("\n")
    assert len(strip_comments(text)) == len(text)


@given(st.text(max_size=30), st.text('/*"\\\n, ]}', max_size=12))
def test_strings_survive_whatever_is_in_them(any_text: str, nasty: str) -> None:
    value = {any_text: [nasty, "http://127.0.0.1/*x*/"], "x": nasty + any_text}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize("text", ["{", "", "[1 2]", "{'a': 1}", '{"a": NaN}', "[Infinity]", '"open', "/* open", "[,]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def test_files_of_a_folder_are_merged_and_others_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path / "conf", a='{"A": 1}', b='{"B": "${NAME:-x}"} // last')
    (folder / "notes.txt").write_text("no JSON")
    assert read_configuration(folder, {"NAME": "value"}) == {"A": 1, "B": "value"}
    assert read_configuration(folder / "a.json", {}) == {"A": 1}


def test_option_in_two_files_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "conf", a='{"DicomAet": "A", "Name": "n"}', b='{"DicomAet": "B"}')
    with pytest.raises(ConfigurationError, match=r"b\.json: option DicomAet"):
        read_configuration(folder, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n"A": 1\n"B": 2}', r"line 3: "),
        (b"[1]", "expected a JSON object"),
        (b'{"A": "\xff"}', "not UTF-8 at byte 7"),
        (b" " * (MAXIMUM_FILE_BYTES + 1), "larger than"),
        (b'{\n/* \n\n */ "A": }', r"line 4: "),
    ],
    ids=["line", "no object", "encoding", "size", "line after a comment"],
)
def test_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "orthanc.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"orthanc\.json: {message}"):
        read_configuration(path, {})


def test_missing_file_and_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_configuration(tmp_path / "none.json", {})
    with pytest.raises(ConfigurationError, match=r"no \*\.json file"):
        read_configuration(tmp_path, {})


def test_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "orthanc.json").write_bytes(b'\xef\xbb\xbf{"A": 1}')
    assert read_configuration(tmp_path / "orthanc.json", {}) == {"A": 1}


@given(st.text(), st.dictionaries(st.text("AB_", min_size=1), st.text()))
def test_text_without_variables_stays_as_it_is(text: str, environment: dict[str, str]) -> None:
    if "${" not in text:
        assert substitute_variables(text, environment) == text


# From here on Orthanc itself is asked.

DUMP = "import os, orthanc\nopen({!r}, 'w').write(orthanc.GetConfiguration())\nos._exit(0)\n"
ENVIRONMENT = {"GATEWAY_A": "world", "GATEWAY_B": "two words"}

Read = Callable[[str], dict[str, Any] | None]


@pytest.fixture
def orthanc_reads(tmp_path: Path) -> Read:
    """What Orthanc makes of a configuration: its Python plugin writes it down and ends the process."""
    script, dump, file = tmp_path / "dump.py", tmp_path / "dump.json", tmp_path / "orthanc.json"
    script.write_text(DUMP.format(str(dump)))
    head = {
        "DicomServerEnabled": False,
        "HttpServerEnabled": False,
        "StorageDirectory": str(tmp_path / "storage"),
        "Plugins": [PYTHON_PLUGIN],
        "PythonScript": str(script),
    }

    def read(options: str) -> dict[str, Any] | None:
        file.write_text(json.dumps(head)[:-1] + ",\n" + options + "\n}")
        dump.unlink(missing_ok=True)
        subprocess.run(
            [ORTHANC, str(file)],
            cwd=tmp_path,
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return dict(json.loads(dump.read_text())) if dump.exists() else None

    return read


VALUES = (
    r"""
"plain ${GATEWAY_A}"
"${GATEWAY_A}${GATEWAY_B}"
"${GATEWAY_NONE}|"
"${GATEWAY_NONE:-default}"
"${GATEWAY_NONE:-}|"
"${GATEWAY_A:-default}"
"${GATEWAY_NONE:-a:b}"
"${GATEWAY_NONE:-two words}"
"${GATEWAY_NONE:-http://h/*x*/}"
"${GATEWAY_NONE:-'quoted'}"
"${GATEWAY_NONE:-'with } in it'}"
"${GATEWAY_NONE:-it's}"
"${GATEWAY_NONE:--}"
"${GATEWAY_NONE:-\"x\"}"
"${GATEWAY_NONE:-${GATEWAY_A}}"
"${GATEWAY.NONE:-y}|${GATEWAY-NONE}|${ GATEWAY_A }|"
"${GATEWAY_A:}|${GATEWAY_NONE-x}|$GATEWAY_A"
${GATEWAY_NONE:-5}
${GATEWAY_NONE:-"6"}
${GATEWAY_NONE:-'["a", "b"]'}
"a//b /* c */"
"\u00e9\/\\"
"tab	in a string"
[1, 2, ]
{"a": [], }
-1.5e3
true /* after */
// before
"after"
""".strip()
    .replace("// before\n", "// before\x00")
    .splitlines()
)


@pytest.mark.integration
def test_values_are_those_that_orthanc_reads(orthanc_reads: Read, tmp_path: Path) -> None:
    # A comment and what follows it are one value.
    values = [value.replace("\x00", "\n") for value in VALUES]
    options = ",\n".join(f'"Value{number}": {value}' for number, value in enumerate(values))
    theirs = orthanc_reads(options)
    assert theirs is not None
    ours = read_configuration(tmp_path / "orthanc.json", ENVIRONMENT)
    for number, value in enumerate(values):
        assert ours[f"Value{number}"] == theirs[f"Value{number}"], value
    assert ours == theirs


@pytest.mark.integration
@pytest.mark.parametrize("value", ["'single'", "NaN", "1 # hash", "", "[1 2]", '"open', "[,]", "{,}", "[1,,]"])
def test_what_orthanc_does_not_read_is_refused(orthanc_reads: Read, tmp_path: Path, value: str) -> None:
    assert orthanc_reads(f'"Value": {value}') is None
    with pytest.raises(ConfigurationError):
        read_configuration(tmp_path / "orthanc.json", ENVIRONMENT)


@pytest.mark.integration
def test_sample_configuration_of_orthanc_is_read(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    subprocess.run([ORTHANC, f"--config={sample}"], capture_output=True, timeout=60, check=True)
    content = read_configuration(sample, {})
    assert content["DicomAet"] == "ORTHANC"
    assert len(content) > 50
