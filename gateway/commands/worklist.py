"""`dicom-gateway worklist`: the roof towards a person who wants to see or change what modalities are told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.common import ConfigurationOption, fail, load, open_database, person
from gateway.commands.readable import Listing, attribute_lines, local_time
from gateway.dicom.character_sets import of_orthanc
from gateway.matching.attributes import Attributes
from gateway.options.config import Configuration
from gateway.printable import printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.database import Database
    from worklist.items import Item

app = typer.Typer(no_args_is_help=True, help="The worklist: what modalities are told to do.")

Numbers = Annotated[list[int], typer.Argument(help="Items as `worklist list` shows them.", show_default=False)]


@app.command("list")
def list_items(
    configuration: ConfigurationOption,
    day: Annotated[str, typer.Option("--date", help="YYYYMMDD, A-B, today, or tomorrow.")] = "",
    station: Annotated[str, typer.Option(help="Scheduled Station AE Title.")] = "",
    status: Annotated[str, typer.Option(help="One status, or all; else all that are not finished.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID, or the beginning of the name.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
) -> None:
    """List items by their scheduled time."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from worklist.candidates import Selection, candidates
    from worklist.items import UNFINISHED, Status

    if status and status not in (*Status.__members__, "all"):
        raise fail(f"--status: expected all, {', '.join(Status)}")
    first_day, last_day = _days(day)
    common: dict[str, Any] = {
        "stations": [station] if station else None,
        "first_day": first_day,
        "last_day": last_day,
        "accession_numbers": [accession] if accession else None,
        "statuses": None if status == "all" else [Status(status)] if status else UNFINISHED,
    }
    table = Listing(
        "item", "status", "scheduled", "station", "modality", "patient", "name", "accession", "label", "from"
    )
    with _database(loaded) as database:
        found = {item.id: item for item in candidates(database, Selection(**common, patient_name=patient))}
        if patient:
            found |= {item.id: item for item in candidates(database, Selection(**common, patient_ids=[patient]))}
        for item in found.values():
            table.add_row(*_row(item))
    table.print()


@app.command()
def show(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """Show items: all attributes, what happened to them, who asked for them, what was done."""
    loaded = load(configuration)[1]
    from worklist import store

    with _database(loaded) as database, database.read() as connection:
        for number in numbers:
            item = store.get(connection, number)
            if item is None:
                raise fail(f"there is no item {number}")
            print(f"item: {item.id}")
            print(f"status: {item.status.value}")
            print(f"from: {item.origin}")
            for line in attribute_lines(item.attributes):
                print(line)
            for event in store.history(connection, number):
                print(f"{local_time(event.at)} {printable(event.who)}: {printable(event.what)}")
            for line in _work(connection, number):
                print(line)


@app.command()
def add(
    configuration: ConfigurationOption,
    file: Annotated[
        Path | None,
        typer.Argument(help="A DICOM file, or JSON as Orthanc's /worklists/create takes it.", show_default=False),
    ] = None,
    patient_id: Annotated[str, typer.Option(help="Patient ID.")] = "",
    issuer: Annotated[str, typer.Option(help="Issuer of Patient ID.")] = "",
    patient_name: Annotated[str, typer.Option(help="FAMILY^GIVEN.")] = "",
    birth_date: Annotated[str, typer.Option(help="YYYYMMDD.")] = "",
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    station: Annotated[str, typer.Option(help="Scheduled Station AE Title.")] = "",
    modality: Annotated[str, typer.Option(help="CT, MR, US, ...")] = "",
    day: Annotated[str, typer.Option("--date", help="YYYYMMDD, today, or tomorrow.")] = "",
    time: Annotated[str, typer.Option(help="HHMM.")] = "",
    description: Annotated[str, typer.Option(help="What is to be done.")] = "",
    physician: Annotated[str, typer.Option(help="Referring Physician's Name.")] = "",
    label: Annotated[str, typer.Option(help="Worklist Label: only for this called AE title.")] = "",
) -> None:
    """Add an item: from options, from a file, or from a file with options over it."""
    loaded = load(configuration)[1]
    from worklist import entry, store

    tags = {
        "PatientID": patient_id,
        "IssuerOfPatientID": issuer,
        "PatientName": patient_name,
        "PatientBirthDate": birth_date,
        "PatientSex": sex,
        "AccessionNumber": accession,
        "RequestedProcedureDescription": description,
        "ReferringPhysicianName": physician,
        "WorklistLabel": label,
    }
    step = {
        "ScheduledStationAETitle": station,
        "Modality": modality,
        "ScheduledProcedureStepStartDate": _days(day)[0],
        "ScheduledProcedureStepStartTime": time,
    }
    given: dict[str, Any] = {name: value for name, value in tags.items() if value}
    if any(step.values()):
        given["ScheduledProcedureStepSequence"] = [{name: value for name, value in step.items() if value}]
    try:
        attributes = _read(file, loaded) if file is not None else {}
        attributes = entry.completed(entry.merged(attributes, entry.attributes_from(given)), datetime.now())
    except entry.EntryError as error:
        raise fail(str(error)) from error
    with _database(loaded) as database, database.write(lock=store.LOCK) as connection:
        item = store.add(connection, attributes, store.Change.now(person()), origin=person())
    print(f"item {item.id}: added")


@app.command()
def cancel(
    numbers: Numbers,
    configuration: ConfigurationOption,
    reason: Annotated[str, typer.Option(help="Stands in the history.")] = "",
) -> None:
    """Cancel items: modalities see them no more, unless they ask for this status."""
    loaded = load(configuration)[1]
    from worklist import store
    from worklist.items import Status

    with _database(loaded) as database, database.write(lock=store.LOCK) as connection:
        found = {number: store.get(connection, number) for number in numbers}
        for number, item in found.items():
            if item is None:
                raise fail(f"there is no item {number}")
            store.set_status(connection, item, Status.CANCELED, store.Change.now(person()), reason)
    for number in numbers:
        print(f"item {number}: canceled")


@app.command("import")
def import_files(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of *.wl files.", show_default=False)],
    configuration: ConfigurationOption,
) -> None:
    """Copy .wl files into the worklist. What becomes of the files then is of no consequence."""
    loaded = load(configuration)[1]
    from worklist import store
    from worklist.completeness import describe, missing
    from worklist.files import EXTENSION, FileError, read_file

    files: list[Path] = []
    for path in paths:
        try:
            inside = path.is_dir() and sorted(one for one in path.iterdir() if one.suffix.lower() == EXTENSION)
        except OSError as error:
            raise fail(f"{path}: {error.strerror}") from error
        files += inside or ([] if path.is_dir() else [path])
    refused = 0
    with _database(loaded) as database:
        for file in files:
            try:
                attributes = read_file(file, of_orthanc(loaded.orthanc.default_encoding))
            except FileError as error:
                refused += 1
                print(f"PROBLEM: {file}: {error}")
                continue
            with database.write(lock=store.LOCK) as connection:
                item = _import(connection, attributes, f"import {printable(file.name)}")
            lacking = missing(attributes)
            print(f"item {item.id}: {file}" + (f": lacks {describe(lacking)}" if lacking else ""))
    if refused:
        raise fail(f"{refused} of {len(files)} files refused")


def _import(connection: "Connection", attributes: Attributes, origin: str) -> "Item":
    """Add the item of a file, or replace it if it was imported before."""
    from worklist import store
    from worklist.items import Status, keys_of, status_of

    keys, change = keys_of(attributes), store.Change.now(person())
    same = store.find(
        connection,
        study_instance_uid=keys.study_instance_uid,
        scheduled_procedure_step_id=keys.scheduled_procedure_step_id,
        partition=keys.partition,
    )
    if len(same) == 1 and same[0].origin.startswith("import "):
        return store.replace(connection, same[0], attributes, change)
    return store.add(connection, attributes, change, origin=origin, status=status_of(attributes) or Status.SCHEDULED)


@contextmanager
def _database(configuration: Configuration) -> Iterator["Database"]:
    """The store, if there is one; what goes wrong with it ends the command."""
    if configuration.worklist is None:
        raise fail("the worklist is off: none of DicomGateway.Worklist, DicomGateway.Hl7, Worklists.Enable is there")
    with open_database(configuration) as database:
        yield database


def _read(file: Path, configuration: Configuration) -> Attributes:
    """A DICOM file, or JSON."""
    from worklist import entry
    from worklist.files import MAXIMUM_FILE_BYTES, FileError, read_file

    try:
        with file.open("rb") as opened:
            data = opened.read(MAXIMUM_FILE_BYTES)
        if not data.lstrip().startswith(b"{"):
            return read_file(file, of_orthanc(configuration.orthanc.default_encoding))
        content = json.loads(data)
        # Orthanc's /worklists/create has the attributes in "Tags".
        return entry.attributes_from(content.get("Tags", content))
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from error
    except (FileError, ValueError, RecursionError) as error:
        raise fail(f"{file}: {error}") from error


def _days(text: str) -> tuple[str, str]:
    from gateway.matching import times

    relative = {"today": 0, "tomorrow": 1}
    if text in relative:
        text = (date.today() + timedelta(days=relative[text])).strftime("%Y%m%d")
    if not text:
        return "", ""
    wanted = times.parse_range("DA", text)
    if wanted is None:
        raise fail("--date: expected YYYYMMDD, YYYYMMDD-YYYYMMDD, today, or tomorrow")
    return times.days(wanted)


def _row(item: "Item") -> list[str]:
    keys = item.keys
    scheduled = f"{keys.scheduled_date} {keys.scheduled_time[:4]}"
    texts = (scheduled, " ".join(keys.stations), keys.modality, keys.patient.patient_id, item.patient_name)
    return [
        str(item.id),
        item.status.value,
        *texts,
        keys.accession_number,
        keys.partition,
        item.origin,
    ]


def _work(connection: "Connection", number: int) -> Iterator[str]:
    """To whom an item was shown, the procedure steps on it, and what receivers were told of it."""
    from worklist.feedback import outbox
    from worklist.performed import steps
    from worklist.performed.shown import shown

    for one in shown(connection, number):
        times = f"{one.times} {'time' if one.times == 1 else 'times'}"
        yield f"shown to {printable(one.calling_ae_title)}: {times}, last {local_time(one.last_at)}"
    for step in steps.of_item(connection, number):
        times = f"begun {local_time(step.created_at)}, changed {local_time(step.changed_at)}"
        yield f"procedure step {step.id}: {step.status.value}, from {printable(step.peer.calling_ae_title)}, {times}"
    for message in outbox.of_item(connection, number):
        sent = f", sent {local_time(message.sent_at)}" if message.sent_at else ""
        answer = f", {message.outcome} {printable(message.text)}".rstrip() if message.outcome else ""
        yield f"message {message.id} to {message.receiver}: {message.status}, {message.state}{sent}{answer}"
