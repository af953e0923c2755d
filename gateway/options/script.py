"""The options of scripts: `DicomGateway.ScriptOptions`."""

from typing import Annotated, Final

from pydantic import Field

from gateway.options.section import Section

GIB: Final = 1024 * 1024 * 1024

Limit = Annotated[float, Field(gt=0, le=24 * 3600)]


class ScriptOptions(Section):
    """How long the callbacks of `DicomGateway.Script` may take, in seconds, and what else they may use."""

    load_timeout: Limit = 60.0
    filter_timeout: Limit = 10.0
    find_timeout: Limit = 60.0
    received_instance_timeout: Limit = 60.0
    worklist_timeout: Limit = 60.0
    # Of each step of a move: create, size, each apply.
    move_timeout: Limit = 600.0
    # Of setup, and of each lookup.
    storage_commitment_timeout: Limit = 60.0
    # Of address space (RLIMIT_AS); 0 is no limit.
    maximum_memory: Annotated[int, Field(ge=0)] = 4 * GIB
    stop_on_first_failure: bool = False
