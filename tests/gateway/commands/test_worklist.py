"""`dicom-gateway worklist` on a store without a running gateway."""

import json
from pathlib import Path

from typer.testing import CliRunner

from gateway import database
from gateway.cli import app
from gateway.options.config import parse


def test_what_a_ris_wrote_is_listed_as_it_stands(tmp_path: Path) -> None:
    configuration = {"DicomGateway": {"StateDirectory": str(tmp_path), "Worklist": {}}}
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(configuration))
    books = database.connect(parse(configuration, tmp_path))
    database.migrate(books)
    books.close()
    # Rich would take the first for the end of a style that never began, the second for an emoji.
    texts = {"--patient-id": "[/P1]", "--accession": ":dog:"}
    texts |= {"--patient-name": "A", "--station": "CT1", "--modality": "CT", "--description": "Head", "--date": "today"}
    options = [word for option in texts.items() for word in option]
    added = CliRunner().invoke(app, ["worklist", "add", *options, "-c", str(file)])
    assert added.exit_code == 0, added.output
    listed = CliRunner().invoke(app, ["worklist", "list", "-c", str(file)])
    assert listed.exit_code == 0, listed.output
    assert "[/P1]" in listed.output and ":dog:" in listed.output
