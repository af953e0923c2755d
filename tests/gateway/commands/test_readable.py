"""What a peer wrote does nothing to a terminal."""

import pytest

from gateway.commands.readable import Listing


def test_listing_shows_escape_sequences_instead_of_obeying_them(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Listing("name")
    listing.add_row("\x1b[2J\rJane")
    listing.print()
    assert capsys.readouterr().out.split() == ["name", "?[2J?Jane"]
