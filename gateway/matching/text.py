"""Wildcards (PS3.4 C.2.2.2.4), person names by component groups (PS3.5 6.2.1), case."""

import re
from collections.abc import Callable

Test = Callable[[str], bool]


def fold(text: str) -> str:
    """Upper case, letters with accents included, each character remaining one: Orthanc's ToUpperCaseWithAccents."""
    if text.isascii():
        return text.upper()
    return "".join(upper if len(upper := character.upper()) == 1 else character for character in text)


def wildcard(pattern: str) -> Test:
    """Test for `*` (any characters) and `?` (any one).

    Piece by piece between the asterisks, each at the first place where it fits: a pattern of a peer must not cost
    more than its length times that of the value.
    """
    pieces = [re.compile(_piece(piece), re.DOTALL) for piece in pattern.split("*")]
    if len(pieces) == 1:
        return lambda value: pieces[0].fullmatch(value) is not None
    (head, *middle), tail = pieces[:-1], pattern.rsplit("*", 1)[1]
    last = pieces[-1]

    def test(value: str) -> bool:
        start = head.match(value)
        if start is None:
            return False
        position = start.end()
        for piece in middle:
            found = piece.search(value, position)
            if found is None:
                return False
            position = found.end()
        end = len(value) - len(tail)
        return end >= position and last.fullmatch(value, end) is not None

    return test


def _piece(piece: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in piece)


def name_test(pattern: str, *, case_sensitive: bool) -> Test:
    """Test for person names: each component group that the key gives must match its counterpart.

    A key of one group matches whichever group of a name it fits: an operator types one, and need not know in
    which of alphabetic, ideographic and phonetic it was stored.
    """
    groups = [normal_name(group, case_sensitive=case_sensitive) for group in pattern.split("=")]
    tests = [wildcard(group) if group else None for group in groups]
    only = tests[0] if len(tests) == 1 else None

    def test(value: str) -> bool:
        stored = [normal_name(group, case_sensitive=case_sensitive) for group in value.split("=")]
        if only is not None:
            return any(only(group) for group in stored)
        return all(one is None or (index < len(stored) and one(stored[index])) for index, one in enumerate(tests))

    return test


def normal_name(group: str, *, case_sensitive: bool) -> str:
    """A component group as it is compared.

    PS3.5 6.2.1.1: trailing delimiters of empty components may be left out; spaces around them say nothing.
    """
    text = "^".join(component.strip(" \0") for component in group.split("^")).rstrip("^")
    return text if case_sensitive else fold(text)
