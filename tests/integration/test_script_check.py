"""`dicom-gateway check` loads the script apart from everything else and says what it registers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.conftest import MakeGateway


@pytest.fixture
def said(make_gateway: MakeGateway, tmp_path: Path):  # type: ignore[no-untyped-def]
    """What check says of a script with this text, line by line."""

    def check(text: str, of_orthanc: Mapping[str, str] = MappingProxyType({}), **options: float) -> list[str]:
        script = tmp_path / "mine.py"
        script.write_text(text)
        gateway = make_gateway(DicomGateway={"Script": str(script), "ScriptOptions": options}, **of_orthanc)
        gateway.write_configuration()
        command = [sys.executable, "-m", "gateway.cli", "check", str(gateway.file)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return [line for line in ended.stdout.splitlines() if "script " in line]

    return check


def test_check_lists_what_is_registered_and_what_is_not_offered(said, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = said(
        """
import orthanc as o
from orthanc import LookupStudy

def later():
    o.SetGlobalProperty(1024, 'x')
    o.NothingLikeThis()

print('loading')
o.RegisterIncomingCStoreInstanceFilter(lambda instance: 0)
o.RegisterMoveCallback2(print, print, print, print)
o.RegisterRestCallback('/mine', print)
o.RegisterOnChangeCallback(print)
"""
    )
    assert [line.split("mine.py: ")[1] for line in lines] == [
        "RegisterIncomingCStoreInstanceFilter, RegisterMoveCallback2, RegisterOnChangeCallback",
        "orthanc.NothingLikeThis is not known",
        "orthanc.RegisterRestCallback is ignored: it adds routes to Orthanc's HTTP server"
        " (DicomGateway.OrthancScripts)",
        "orthanc.SetGlobalProperty is not offered; instead: a script in DicomGateway.OrthancScripts",
    ]


RECEIVES = "import orthanc\northanc.RegisterReceivedInstanceCallback(print)\n"


def test_check_says_who_calls_the_callback_of_received_instances(said, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (alone,) = said(RECEIVES)
    assert alone.endswith("mine.py: RegisterReceivedInstanceCallback")
    of_glue = said(RECEIVES, {"PythonScript": "/opt/dicom-gateway/orthanc_glue.py"})
    assert of_glue[0].endswith("mine.py: registers no callback that is called here")
    assert of_glue[1].endswith(
        "orthanc.RegisterReceivedInstanceCallback is ignored: it is called before Orthanc stores an instance"
        " (DicomGateway.OrthancScripts)"
    )
    for own in ({"PythonScript": str(tmp_path / "mine.py")}, {"Python": {"Path": str(tmp_path / "mine.py")}}):
        assert said(RECEIVES, own)[0].endswith("mine.py: registers no callback that is called here")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_like_this", "line 1: ModuleNotFoundError"),
        ("import orthanc\n\northanc.RestApiPost('/tools/reset', '')", "nothing is changed in a check"),
        ("import os\nos._exit(7)", "its process ended with status 7"),
        ("while True: pass", "it does not load within 2 s"),
        ("def f(:", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("from orthanc import *\nimport ctypes\nctypes.string_at(0)", "its process ended with status -11"),
    ],
)
def test_check_says_why_a_script_cannot_be_loaded(said, text: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    started = time.monotonic()
    (line,) = said(text, LoadTimeout=2 if "while" in text else 60)
    assert line.startswith("PROBLEM: script ")
    assert reason in line
    assert time.monotonic() - started < 20


def test_check_says_what_is_not_offered_of_a_script_that_never_loads(said) -> None:  # type: ignore[no-untyped-def]
    lines = said("import orthanc\nx = orthanc.HttpGet\nwhile True: pass", LoadTimeout=2)
    assert [line.split("mine.py: ")[1] for line in lines] == [
        "cannot be loaded: it does not load within 2 s",
        "orthanc.HttpGet is not offered; instead: a library for HTTP, such as requests",
    ]
