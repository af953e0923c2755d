"""Mistakes in a configuration, in the words of the file: pydantic's would be those of Python."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

# Where pydantic speaks of Python instead of the file.
_TEXTS: Final = {
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "string_pattern_mismatch": "expected http:// or https:// and a host",
}

# Of difflib: how alike two names must be for one to be a misspelling of the other.
_LIKENESS: Final = 0.8


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per mistake in what is a `model`: path of the key, what was expected, never the value."""
    mistakes: dict[str, list[str]] = {}
    for mistake in error.errors(include_url=False, include_input=False):
        keys = [str(part) for part in mistake["loc"] if not _is_alternative(part)]
        said = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        text = _TEXTS.get(mistake["type"], said)
        if mistake["type"] == "extra_forbidden":
            text = _unknown_option(model, keys)
        mistakes.setdefault(".".join([prefix] * bool(prefix) + keys), []).append(text)
    # A mistake between several options has no path: its text names them.
    return [f"{path}{': ' * bool(path)}{', or '.join(dict.fromkeys(texts))}" for path, texts in mistakes.items()]


def similar_option(name: str, options: Iterable[str]) -> str | None:
    """The option that `name` is a misspelling of, None if it is like none of them."""
    by_spelling = {option.casefold(): option for option in options}
    alike = difflib.get_close_matches(name.casefold(), by_spelling, n=1, cutoff=_LIKENESS)
    return by_spelling[alike[0]] if alike else None


def _unknown_option(model: type[BaseModel], keys: list[str]) -> str:
    sections = {model}
    for key in keys[:-1]:
        fields = [field for section in sections for field in section.model_fields.values() if field.alias == key]
        # A key that is none of the options is a name that the site chose, or a place in a list.
        sections = {inner for field in fields for inner in _sections(field.annotation)} or sections
    meant = similar_option(keys[-1], [str(field.alias) for one in sections for field in one.model_fields.values()])
    return f"unknown option, is {meant} meant?" if meant else "unknown option"


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a value of this type may have in it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _is_alternative(part: str | int) -> bool:
    """Whether this part of a path is no key of the file but pydantic's name for one of several types."""
    return isinstance(part, str) and ("[" in part or part == "str")
