"""What the process of a script and that of a check have in common."""

from __future__ import annotations

import resource

from gateway.child import Settings
from gateway.dicom.character_sets import of_orthanc
from gateway.forwarding.endpoint import endpoint
from gateway.options.config import Configuration
from gateway.script_host.api.module import Surroundings
from gateway.script_host.api.rest import RestApi
from gateway.script_host.registrations import Registrations


def surroundings(settings: Settings, configuration: Configuration, registrations: Registrations) -> Surroundings:
    """What the module of the script works with."""
    options = configuration.orthanc
    return Surroundings(
        registrations=registrations,
        rest=RestApi(endpoint(settings, configuration)),
        content=settings.content,
        default_encoding=of_orthanc(options.default_encoding),
        case_sensitive_pn=options.case_sensitive_pn,
        is_also_in_orthanc=settings.in_orthanc and configuration.script in configuration.orthanc_scripts,
    )


def limit_memory(maximum_bytes: int) -> None:
    """What is too much raises MemoryError in the script; 0 is no limit."""
    if maximum_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (maximum_bytes, maximum_bytes))
