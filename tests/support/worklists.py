"""Worklist items as tests need them."""

import subprocess
from pathlib import Path
from typing import Any

from gateway.database import Database
from gateway.matching.attributes import Attributes
from worklist import store
from worklist.entry import attributes_from
from worklist.items import Item

SOMEBODY = store.Change("somebody", 1_700_000_000 * 10**9)


def item_attributes(number: int = 1, *, step: dict[str, str] | None = None, **tags: Any) -> Attributes:
    """A complete item in which everything says `number`, but what `tags` and `step` (by keyword) say."""
    whole: dict[str, Any] = {
        "PatientName": f"DOE^JANE{number}",
        "PatientID": f"P{number}",
        "AccessionNumber": f"A{number}",
        "StudyInstanceUID": f"1.2.{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": "CT head",
    }
    scheduled = {
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": "20261121",
        "ScheduledProcedureStepStartTime": "0930",
        "Modality": "CT",
        "ScheduledProcedureStepDescription": "CT head",
        "ScheduledProcedureStepID": f"S{number}",
    }
    return attributes_from({**whole, **tags, "ScheduledProcedureStepSequence": [{**scheduled, **(step or {})}]})


def add(database: Database, attributes: Attributes, **options: Any) -> Item:
    """Adds one item in a transaction of its own."""
    with database.write(lock=store.LOCK) as connection:
        return store.add(connection, attributes, SOMEBODY, **({"origin": "test"} | options))


def items_of(database: Database) -> list[Item]:
    """All items, the oldest first."""
    with database.read() as connection:
        numbers = connection.exec_driver_sql("SELECT id FROM worklist_items ORDER BY id").scalars().all()
        return [item for number in numbers if (item := store.get(connection, number))]


DUMP = """\
(0008,0005) CS [ISO_IR 192]
(0008,0050) SH [{accession}]
(0010,0010) PN [{name}]
(0010,0020) LO [{patient}]
(0020,000d) UI [{study}]
(0032,1060) LO [CT head]
(0040,0100) SQ
(fffe,e000) na
(0008,0060) CS [CT]
(0040,0001) AE [{station}]
(0040,0002) DA [20261121]
(0040,0003) TM [0930]
(0040,0007) LO [CT head]
(0040,0009) SH [{step}]
{more}(fffe,e00d) na
(fffe,e0dd) na
(0040,1001) SH [R1]
"""


def dump(name: str = "DOE^JANE", step: str = "S1", more: str = "", **others: str) -> str:
    """The text form of a file, for dump2dcm; `more`: lines within the step."""
    values = {"accession": "A1", "patient": "P1", "study": "1.2.3", "station": "CT1", **others}
    return DUMP.format(name=name, step=step, more=more, **values)


def write_file(path: Path, text: str | bytes | None = None, *options: str) -> Path:
    """Makes a file with DCMTK's dump2dcm from `text`; it appears at once as a whole, as a rename makes it."""
    text = dump() if text is None else text
    source, made = path.with_suffix(".dump"), path.with_suffix(".tmp")
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    command = ["/usr/bin/dump2dcm", "-q", *options, str(source), str(made)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    source.unlink()
    return made.rename(path)
