"""Mistakes in a configuration, in the words of the file: pydantic's would be those of Python."""

from typing import Final

from pydantic import ValidationError

# Where pydantic speaks of Python instead of the file.
_TEXTS: Final = {
    "extra_forbidden": "unknown option",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "string_pattern_mismatch": "expected http:// or https:// and a host",
}


def explain(error: ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake, in the words of the file: path of the key, what was expected, never the value."""
    mistakes: dict[str, list[str]] = {}
    for mistake in error.errors(include_url=False, include_input=False):
        keys = [str(part) for part in mistake["loc"] if not _is_alternative(part)]
        said = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        text = _TEXTS.get(mistake["type"], said)
        mistakes.setdefault(".".join([prefix] * bool(prefix) + keys), []).append(text)
    # A mistake between several options has no path: its text names them.
    return [f"{path}{': ' * bool(path)}{', or '.join(dict.fromkeys(texts))}" for path, texts in mistakes.items()]


def _is_alternative(part: str | int) -> bool:
    """Whether this part of a path is no key of the file but pydantic's name for one of several types."""
    return isinstance(part, str) and ("[" in part or part == "str")
