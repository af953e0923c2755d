"""Log lines: one per event, in one write, with nothing of the wire that a terminal or a parser would obey."""

import json
import os
import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest

from gateway.log import MAXIMUM_LINE_BYTES

CONFIGURE = (
    "from gateway import log\nlog.configure({level!r}, {format!r}, 'scp')\nlogger = log.get_logger(calling='CT1')\n"
)


def run(script: str, level: str = "INFO", log_format: str = "Text") -> str:
    """What a process with that logging writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE.format(level=level, format=log_format) + script],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b""
    return done.stderr.decode()


def test_line_has_time_level_process_event_and_keys() -> None:
    (line,) = run("logger.warning('association rejected', reason='not known', port=104)").splitlines()
    time, rest = line.split(" ", 1)
    assert datetime.fromisoformat(time)
    assert rest == 'WARNING scp: association rejected calling=CT1 reason="not known" port=104'


@pytest.mark.parametrize(("level", "expected"), [("ERROR", "E"), ("WARNING", "EW"), ("INFO", "EWI"), ("DEBUG", "EWID")])
def test_level_filters_and_is_the_first_letter_inside_orthanc(level: str, expected: str) -> None:
    script = "for name in ('error', 'warning', 'info', 'debug'): getattr(logger, name)('event')"
    lines = run(script, level, "Relayed").splitlines()
    assert lines == [f"{letter} scp: event calling=CT1" for letter in expected]


def test_json_line_is_one_object() -> None:
    script = "logger.info('stored', message_id=7, name='M\\u00fcller \"x\"\\n', path=__import__('pathlib').Path('/a'))"
    (line,) = run(script, log_format="Json").splitlines()
    entry: dict[str, Any] = json.loads(line)
    assert datetime.fromisoformat(entry.pop("timestamp"))
    assert entry == {
        "event": "stored",
        "level": "info",
        "process": "scp",
        "calling": "CT1",
        "message_id": 7,
        "name": 'Müller "x"\n',
        "path": "/a",
    }


@pytest.mark.parametrize("log_format", ["Text", "Relayed", "Json"])
def test_control_characters_of_the_wire_stay_within_their_value(log_format: str) -> None:
    hostile = "A\nE scp: forged\r\x1b[2J\x00\x85\u2028\x7f tab\there"
    text = run(f"logger.info('event ' + {hostile!r}, title={hostile!r})", log_format=log_format)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert all(character.isprintable() for character in text[:-1])


def test_quotes_and_spaces_are_told_apart_from_the_next_key() -> None:
    (line,) = run("logger.info('event', a='', b='x\" c=1', d='plain')").splitlines()
    assert line.endswith(r"""a="" b="x\" c=1" d=plain""")


def test_backslash_before_a_quote_does_not_end_the_value() -> None:
    (line,) = run(r"""logger.info('event', reason='x\\" status=0x0000')""").splitlines()
    assert line.endswith(r'reason="x\\\" status=0x0000"')


def test_long_json_line_is_json_too() -> None:
    (line,) = run("logger.info('event', reason='\u00e9' * 10_000, stored=3)", log_format="Json").splitlines()
    entry = json.loads(line)
    assert entry["reason"].startswith("é" * 50)
    assert (entry["event"], entry["calling"], entry["stored"], entry["process"]) == ("event", "CT1", 3, "scp")


def test_exception_is_on_the_same_line() -> None:
    script = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logger.error('failed', exc_info=True)"
    for log_format in ("Text", "Relayed", "Json"):
        (line,) = run(script, log_format=log_format).splitlines()
        assert "ZeroDivisionError" in line


def test_surrogates_do_not_stop_the_log() -> None:
    (line,) = run("logger.info('event', title='A\\udcffB')").splitlines()
    assert "title=A" in line


def test_long_line_is_cut_to_what_one_write_holds() -> None:
    text = run("logger.info('event', value='x' * 100_000)\nlogger.info('next')")
    first, second = text.splitlines()
    assert len(first) == MAXIMUM_LINE_BYTES
    assert second.endswith("next calling=CT1")


def test_lines_of_several_processes_never_mix() -> None:
    reading, writing = os.pipe()
    script = CONFIGURE.format(level="INFO", format="Text") + "for n in range(200): logger.info('x' * 1500, n=n)"
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=writing) for _ in range(3)]
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(lines) == 600
    assert all(line.count("x" * 1500) == 1 and line.count("scp:") == 1 for line in lines)


def test_work_goes_on_when_nobody_reads_the_log() -> None:
    reading, writing = os.pipe()
    script = CONFIGURE.format(level="INFO", format="Text") + "logger.info('lost')\nprint('alive')"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=writing)
    os.close(reading)
    os.close(writing)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == (b"alive\n", 0)


def test_libraries_are_silent() -> None:
    script = "import logging\nlogging.getLogger('pynetdicom').error('noise')\nlogger.info('event')"
    assert len(run(script).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["x" * 10_000, '"\\n' * 5_000, "\\u00e9" * 5_000], ids=["plain", "quoted", "beyond ASCII"]
)
def test_json_line_that_is_too_long_is_still_one_object(text: str) -> None:
    script = f"logger.error('failed', reason='{text}', uids=['1.2.3'] * 3000, port=104)"
    (line,) = run(script, log_format="Json").splitlines()
    entry = json.loads(line)
    assert len(line.encode()) <= MAXIMUM_LINE_BYTES
    assert (entry["event"], entry["port"], entry["calling"]) == ("failed", 104, "CT1")
    assert len(entry["reason"]) > 50
    assert entry["reason"].endswith("...")


def test_exception_in_a_json_line_is_shortened_too() -> None:
    script = "try:\n    raise ValueError('x' * 9000)\nexcept ValueError as e:\n    logger.error('failed', exc_info=e)\n"
    (line,) = run(script, log_format="Json").splitlines()
    assert json.loads(line)["exception"].startswith("Traceback")
