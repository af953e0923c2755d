"""docs/hl7.md says what the code does: its tables, its examples."""

import json
from pathlib import Path
from typing import Final

from gateway.options.hl7 import Hl7Section
from tests.test_docs import indented_blocks, rows, section
from tests.worklist.orders.messages import Worklist, value
from worklist.items import Status
from worklist.orders.field_map import FIELD_MAP
from worklist.orders.order_control import APPOINTMENT_EVENTS, ORDER_CONTROL
from worklist.orders.patients import PATIENT_EVENTS
from worklist.orders.statuses import CHANGES_FROM

PROFILE: Final = Path(__file__).parents[3] / "docs" / "hl7.md"


def codes(cell: str) -> list[str]:
    return [part.strip(" `") for part in cell.split("`, `")]


def test_the_field_map_is_that_of_the_code() -> None:
    described = [(row[0], row[1], codes(row[2]), row[3]) for row in rows(section(PROFILE, "## Field map"))]
    assert described == [(row.attribute, row.level.value, list(row.sources), row.conversion.name) for row in FIELD_MAP]


def test_order_control_is_that_of_the_code() -> None:
    table = rows(section(PROFILE, "### Order control"))
    effects = {code: row[0].strip("`") for row in table if row[0].startswith("`") for code in codes(row[1])}
    assert effects == ORDER_CONTROL
    appointments = {row[0].removeprefix("SIU^"): row[1] for row in table if row[0].startswith("SIU^")}
    assert appointments == APPOINTMENT_EVENTS
    changes = {row[0]: set(row[1].split(", ")) for row in table if row[0] in Status.__members__}
    assert changes == {to.value: {status.value for status in before} for to, before in CHANGES_FROM.items()}


def test_patient_events_are_those_of_the_code() -> None:
    table = {row[0].removeprefix("ADT^"): row[1].strip("`") for row in rows(section(PROFILE, "## Patients"))}
    assert table.pop("all others") == "IGNORE"
    assert table == PATIENT_EVENTS


def options_of(heading: str) -> dict[str, object]:
    block = next(block for block in indented_blocks(section(PROFILE, heading)) if block.startswith('"Hl7"'))
    options: dict[str, object] = json.loads(f"{{{block}}}")["Hl7"]
    return options


def test_the_example_of_the_field_map_is_valid() -> None:
    Hl7Section.model_validate(options_of("### Changing it"))


def test_the_example_leads_to_what_is_printed(worklist: Worklist) -> None:
    worklist.configure(**options_of("## StationRules"))
    order, *_ = indented_blocks(section(PROFILE, "## Example"))
    result = worklist.send(order.replace("\n", "\r") + "\r")
    item = worklist.item
    assert f"MSA|AA|4711|{result.text.replace(f'item {item.id}', 'item 1')}\n" in PROFILE.read_text()
    assert value(item, "ScheduledStationAETitle") == "CT_ER"
    assert value(item, "PatientName") == "MÜLLER^JÜRGEN^^DR^JR"
    assert value(item, "RequestingPhysician") == "QUINN^MICHAELA"
    older = order.replace("20261121080000", "20261121073000").replace("ORC|NW", "ORC|XO")
    assert f"MSA|AA|4713|{worklist.send(older).text}\n" in PROFILE.read_text()
