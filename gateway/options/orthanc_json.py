"""Orthanc's own configuration files: JSON with comments, `${VARIABLE}` substitution, folders of files.

Source: Orthanc's `OrthancConfiguration` and `Toolbox::SubstituteVariables` (1.10.1).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAXIMUM_FILE_BYTES = 16 * 1024 * 1024


class ConfigurationError(Exception):
    """A configuration that cannot be used. The text says where and what was expected, in one line."""


# A string is matched first, so that "http://..." is not taken for a comment.
_TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

# A default may stand in quotes, which are not part of it; outside of quotes it holds none.
_VARIABLE = re.compile(r"""\$\{([^:}]+)(?::-(?:'([^']*)'|"([^"]*)"|([^"'}]*)))?\}""")

# Orthanc's parser takes a comma after the last value. What is matched by the group, such as "[,", stays.
_LAST_COMMAS = re.compile(r'("(?:\\.|[^"\\])*"|[\[{,]\s*,)|,(?=\s*[}\]])', re.DOTALL)


def strip_comments(text: str) -> str:
    """Return `text` with its // and /* */ comments blanked, line numbers kept."""

    def blank(match: re.Match[str]) -> str:
        token = match.group()
        return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)

    return _TOKENS.sub(blank, text)


def substitute_variables(text: str, environment: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}` as Orthanc does: what is not set becomes empty."""

    def value(match: re.Match[str]) -> str:
        name, *defaults = match.groups()
        return environment.get(name, next(filter(None, defaults), ""))

    return _VARIABLE.sub(value, text)


def parse_json(text: str) -> Any:
    """Parse JSON as Orthanc's parser does: with comments, tabs in strings, a comma after the last value.

    Raises json.JSONDecodeError.
    """
    text = _LAST_COMMAS.sub(lambda match: match.group(1) or " ", strip_comments(text))
    return json.JSONDecoder(strict=False, parse_constant=_refuse_constant).decode(text)


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is no JSON value", "", 0)


def read_configuration(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read a configuration file, or all `*.json` of a folder merged as Orthanc merges them.

    Raises ConfigurationError when a file is missing, is no JSON object, or repeats another's option.
    """
    if not path.is_dir():
        return _read_file(path, environment)
    merged: dict[str, Any] = {}
    for file in sorted(path.glob("*.json")):
        section = _read_file(file, environment)
        repeated = sorted(merged.keys() & section.keys())
        if repeated:
            raise ConfigurationError(f"{file}: option {repeated[0]} also stands in another file of {path}")
        merged.update(section)
    if not merged:
        raise ConfigurationError(f"{path}: no *.json file with options in it")
    return merged


def _read_file(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAXIMUM_FILE_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAXIMUM_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        content = parse_json(substitute_variables(text, environment))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}: line {error.lineno}: {error.msg}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a JSON object")
    return content
