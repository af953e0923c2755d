"""Logs of all processes: one line per event on standard error, with the keys that a reader filters by.

Inside Orthanc each line starts with its level (`E`, `W`, `I`, `D`) and a space, and the glue puts it into Orthanc's
log under that level. Keys used throughout: association, peer, calling, called, message_id. No patient data
at INFO and above.
"""

import contextlib
import logging
import os
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

LogFormat = Literal["Text", "Json", "Relayed"]

# A line is written in one piece, so that lines of several processes never mix (PIPE_BUF).
MAXIMUM_LINE_BYTES = 4000

STANDARD_ERROR_FD = 2


def configure(level: str, log_format: LogFormat, process: str) -> None:
    """Set up logging for this process; `process` is its name in every line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *([] if log_format == "Relayed" else [structlog.processors.TimeStamper(fmt="iso", utc=False)]),
            structlog.processors.format_exc_info,
            _JsonLine(process) if log_format == "Json" else _TextLine(process, relayed=log_format == "Relayed"),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.WriteLoggerFactory(file=_LineWriter()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # pynetdicom and the libraries speak through the standard logging: only what matters, in our format.
    logging.basicConfig(level=logging.CRITICAL, force=True)


def get_logger(**context: Any) -> Any:
    """A structured logger with `context` bound to each of its lines."""
    return structlog.get_logger(**context)


class _LineWriter:
    """Writes each line with one write(2), without control characters from the wire."""

    def write(self, text: str) -> None:
        line = text.rstrip("\n").encode("utf-8", "backslashreplace")[:MAXIMUM_LINE_BYTES] + b"\n"
        with contextlib.suppress(OSError):  # whoever read our log has gone: the work goes on without it
            os.write(STANDARD_ERROR_FD, line)

    def flush(self) -> None:
        """Nothing is buffered."""


class _TextLine:
    def __init__(self, process: str, *, relayed: bool) -> None:
        self._process = process
        self._relayed = relayed

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        level = str(event.pop("level"))
        timestamp = event.pop("timestamp", "")
        exception = event.pop("exception", None)
        text = str(event.pop("event"))
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in event.items())
        line = f"{self._process}: {_printable(text)}" + (f" {pairs}" if pairs else "")
        if exception:
            line += " exception=" + _printable(str(exception))
        return f"{level[0].upper()} {line}" if self._relayed else f"{timestamp} {level.upper():7} {line}"


class _JsonLine:
    """What is too long for a line is shortened before it is encoded: half an object is none."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._render = structlog.processors.JSONRenderer(default=str)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        event["process"] = self._process
        line = str(self._render(logger, method, event))
        most_characters = MAXIMUM_LINE_BYTES
        while len(line) > MAXIMUM_LINE_BYTES and most_characters > 1:  # ASCII: a character is a byte
            most_characters //= 2
            event = {key: _shortened(value, most_characters) for key, value in event.items()}
            line = str(self._render(logger, method, event))
        return line


def _shortened(value: Any, most_characters: int) -> Any:
    """Numbers stay; of text, and of what is shown as text, the begin."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else str(value)
    return value if len(text) <= most_characters else text[:most_characters] + "..."


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _quoted(value: Any) -> str:
    text = str(value)
    if text and " " not in text and '"' not in text:
        return _printable(text)
    # A backslash before a quote of the peer's must not make the quote the end of the value.
    return '"' + _printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
