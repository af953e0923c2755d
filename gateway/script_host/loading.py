"""Executes the script: as the plugin does, a module of its file's name, its folder on sys.path."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from gateway.script_host.api.module import OrthancModule
from gateway.script_host.server import described


class CannotLoad(Exception):
    """The script raised an exception, or is not there. The text is for the log."""


def load(path: Path, module: OrthancModule) -> None:
    """Execute `path` with `module` as its `orthanc`. Raises CannotLoad."""
    sys.modules["orthanc"] = module
    # What Orthanc's own script imports has nothing to do here: it would start a gateway.
    sys.modules["orthanc_glue"] = ModuleType("orthanc_glue")
    sys.path.insert(0, str(path.parent))
    # The plugin's interpreter reads it; ours is started without. Last: our own packages are not to be replaced.
    sys.path.extend(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file():
        raise CannotLoad(f"there is no file {path}")
    if spec is None or spec.loader is None:
        raise CannotLoad(f"{path} is no Python file")
    script = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = script
    try:
        spec.loader.exec_module(script)
    except MemoryError:
        raise
    except BaseException as error:
        raise CannotLoad(f"{path.name}: {_where(error, path)}{described(error)}") from error


def _where(error: BaseException, path: Path) -> str:
    """The last line of the script itself that the exception came through."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line is not None else ""
