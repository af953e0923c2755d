"""Text in the character sets of PS3.3 C.12.1.1.2."""

import pytest
from pydicom.charset import python_encoding

from gateway.dicom.character_sets import CharacterSet

TERMS = [term for term in python_encoding if term]
ASCII_TEXT = "".join(map(chr, range(0x20, 0x7F)))


class Slow(str):
    """A text that does not say that it is ASCII."""

    def isascii(self) -> bool:
        return False


@pytest.mark.parametrize("terms", [("",), *((term,) for term in TERMS), *(("", term) for term in TERMS)])
def test_ascii_is_encoded_as_any_text_is(terms: tuple[str, ...]) -> None:
    character_set = CharacterSet(terms)
    for text in ("", *ASCII_TEXT, ASCII_TEXT, "\r\n\t", "A\x1b$B"):
        assert character_set.encode(text) == character_set.encode(Slow(text))


def test_a_set_without_ascii_does_not_hold_it() -> None:
    """ISO 2022 IR 87 is Kanji alone, ASCII is not its first set here."""
    assert CharacterSet(("ISO 2022 IR 87", "ISO_IR 100")).encode("DOE^JOHN") != b"DOE^JOHN"
