"""Loads a script for `dicom-gateway check`, in a process of its own, and says what it registers.

Started as `python -I -m gateway.script_host.sandbox`, settings on standard input; JSON on standard output: a line of
what its text says, which is there even if it never loads, and a line of what came of loading it. What a script wants
to change in Orthanc while it is loaded is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.child import Settings, read_settings
from gateway.options.config import names_the_glue
from gateway.script_host import output
from gateway.script_host.api.errors import NOT_IMPLEMENTED, OrthancException
from gateway.script_host.api.module import make_module
from gateway.script_host.api.rest import RestApi
from gateway.script_host.inspection import names_used, remarks
from gateway.script_host.loading import CannotLoad, load
from gateway.script_host.process import limit_memory, surroundings
from gateway.script_host.registrations import Registrations

# A check answers a person.
MAXIMUM_LOAD_S: Final = 30.0
MAXIMUM_ANSWER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Inspected:
    """What is known of a script: why it cannot be loaded, or what it registers; what else there is to say."""

    error: str
    registered: list[str]
    remarks: list[str]


class _ReadingRestApi(RestApi):
    """Only reads."""

    def post(self, uri: str, body: bytes | str) -> bytes:
        """Raises OrthancException, as put and delete."""
        raise OrthancException(NOT_IMPLEMENTED, f"POST {uri}: nothing is changed in a check")

    def put(self, uri: str, body: bytes | str) -> bytes:
        """See post."""
        raise OrthancException(NOT_IMPLEMENTED, f"PUT {uri}: nothing is changed in a check")

    def delete(self, uri: str) -> None:
        """See post."""
        raise OrthancException(NOT_IMPLEMENTED, f"DELETE {uri}: nothing is changed in a check")


def inspect(settings: Settings, limit_s: float) -> Inspected:
    """Load the script of this configuration in a process of its own."""
    limit_s = min(limit_s, MAXIMUM_LOAD_S)
    descriptors = replace(settings, control_fd=None, post_fd=None, changes_fd=None, events_fd=None, studies_fd=None)
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-m", "gateway.script_host.sandbox"],
            input=json.dumps(asdict(descriptors)).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return _inspected(late.stdout or b"", f"it does not load within {limit_s:g} s")
    return _inspected(ended.stdout, f"its process ended with status {ended.returncode} while it was loaded")


def _inspected(answer: bytes, otherwise: str) -> Inspected:
    """What the process has said; `otherwise`: why it did not say what came of loading."""
    lines = answer[:MAXIMUM_ANSWER_BYTES].splitlines()
    try:
        found = json.loads(lines[0]) if lines else []
        error, registered = json.loads(lines[1]) if len(lines) > 1 else (otherwise, [])
    except (ValueError, TypeError):
        found, error, registered = [], otherwise, []
    return Inspected(error, registered, found)


def main() -> None:
    """Entry point."""
    answer = os.dup(1)
    settings = read_settings()
    configuration = settings.configuration()
    settings.configure_log(configuration, "check")
    output.redirect()
    script = configuration.script
    if script is None:
        raise RuntimeError("there is no script in this configuration")
    limit_memory(configuration.gateway.script_options.maximum_memory)
    registrations = Registrations()
    in_orthanc = settings.in_orthanc or names_the_glue(settings.content)
    made = surroundings(settings, configuration, registrations, in_orthanc=in_orthanc)
    module = make_module(replace(made, rest=_ReadingRestApi(made.rest.endpoint)))
    offered = frozenset(vars(module))
    _write(answer, _remarks(script, offered, in_orthanc=in_orthanc))
    error = ""
    try:
        load(script, module)
    except CannotLoad as problem:
        error = str(problem)
    names = [registered.name for kind in registrations.kinds if (registered := registrations.of(kind)) is not None]
    if registrations.on_change is not None:
        names.append("RegisterOnChangeCallback")
    _write(answer, [error, sorted(names)])
    os._exit(0)


def _write(answer: int, line: Any) -> None:
    os.write(answer, json.dumps(line).encode() + b"\n")


def _remarks(script: Path, offered: frozenset[str], *, in_orthanc: bool) -> list[str]:
    try:
        return remarks(names_used(script.read_text(encoding="utf-8")), offered, in_orthanc=in_orthanc)
    except (OSError, SyntaxError, ValueError):
        return []  # loading says it


if __name__ == "__main__":
    main()
