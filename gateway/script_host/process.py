"""What the process of a script and that of a check have in common."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gateway.child import Settings
from gateway.dicom.character_sets import of_orthanc
from gateway.forwarding.endpoint import endpoint
from gateway.options.config import Configuration
from gateway.script_host.api.module import Surroundings
from gateway.script_host.api.rest import RestApi
from gateway.script_host.registrations import Registrations

T = TypeVar("T")


def in_this_process(function: Callable[[], T]) -> T:
    """Call a function of the script. A process that it forks ends where the function ends, and does nothing of ours."""
    process = os.getpid()
    try:
        return function()
    finally:
        if os.getpid() != process:
            error = sys.exception()
            is_exit = isinstance(error, SystemExit) and error.code in (None, 0)
            os._exit(0 if error is None or is_exit else 1)


def surroundings(
    settings: Settings, configuration: Configuration, registrations: Registrations, *, in_orthanc: bool
) -> Surroundings:
    """What the module of the script works with. `in_orthanc`: Orthanc's plugin runs the gateway."""
    options = configuration.orthanc
    return Surroundings(
        registrations=registrations,
        rest=RestApi(endpoint(settings, configuration)),
        content=settings.content,
        default_encoding=of_orthanc(options.default_encoding),
        case_sensitive_pn=options.case_sensitive_pn,
        is_also_in_orthanc=settings.is_script_in_orthanc or _names_twice(settings.content, configuration, in_orthanc),
        is_in_orthanc=in_orthanc,
    )


def _names_twice(content: dict[str, Any], configuration: Configuration, in_orthanc: bool) -> bool:
    """Whether the configuration has Orthanc run the file of the script: by the glue, or as its plugin's one script."""
    if in_orthanc and configuration.script in configuration.orthanc_scripts:
        return True
    section = content.get("Python")  # since plugin 4.1
    named = [content.get("PythonScript"), section.get("Path") if isinstance(section, dict) else None]
    # The plugin takes them relative to the working directory, which inside Orthanc is ours too.
    paths = [Path(name).resolve() for name in named if isinstance(name, str)]
    return configuration.script in paths


def limit_memory(maximum_bytes: int) -> None:
    """What is too much raises MemoryError in the script; 0 is no limit."""
    if maximum_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (maximum_bytes, maximum_bytes))
