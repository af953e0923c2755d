"""Texts of peers, as they may stand in a terminal."""


def printable(text: str) -> str:
    """Without what would move a cursor, or worse."""
    return "".join(character if character.isprintable() else "?" for character in text)
