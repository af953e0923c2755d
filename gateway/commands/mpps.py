"""`dicom-gateway mpps`: the roof towards a person who asks what modalities reported, or ends what they left open."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.commands.common import ConfigurationOption, fail, load, open_database, person
from gateway.commands.readable import Listing, attribute_lines, local_time
from gateway.options.config import Configuration

if TYPE_CHECKING:
    from gateway.database import Database
    from worklist.performed.requirements import StepStatus

app = typer.Typer(no_args_is_help=True, help="Procedure steps: what modalities reported of their work (MPPS).")

Numbers = Annotated[list[int], typer.Argument(help="Steps as `mpps list` shows them.", show_default=False)]

# Performed Station AE Title, Modality, Patient ID.
_COLUMNS: Final = (0x0040_0241, 0x0008_0060, 0x0010_0020)


@app.command("list")
def list_steps(
    configuration: ConfigurationOption,
    limit: Annotated[int, typer.Option(min=1, help="How many, those that changed last.")] = 20,
    status: Annotated[str, typer.Option(help="IN PROGRESS, COMPLETED or DISCONTINUED.")] = "",
    calling: Annotated[str, typer.Option(help="Who reported it: the calling AE title.")] = "",
) -> None:
    """List procedure steps, the one that changed last at the end."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from worklist.items import text_of
    from worklist.performed import steps
    from worklist.performed.linking import linked_items
    from worklist.performed.requirements import StepStatus

    if status and status not in set(StepStatus):
        raise fail(f"--status: expected {', '.join(StepStatus)}")
    table = Listing("step", "status", "from", "station", "modality", "patient", "begun", "changed", "items")
    with _database(loaded) as database, database.read() as connection:
        wanted = StepStatus(status) if status else None
        for step in reversed(steps.latest(connection, limit, status=wanted, calling_ae_title=calling)):
            items = [str(item.id) for item in linked_items(connection, step.id)]
            table.add_row(
                str(step.id),
                step.status.value,
                step.peer.calling_ae_title,
                *(text_of(step.attributes, tag) for tag in _COLUMNS),
                local_time(step.created_at),
                local_time(step.changed_at),
                " ".join(items) or "none",
            )
    table.print()


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="As `mpps list` shows it.", show_default=False)],
    configuration: ConfigurationOption,
) -> None:
    """Show a procedure step: who reported it, its items, all attributes. This is patient data."""
    loaded = load(configuration)[1]
    from worklist.performed import steps
    from worklist.performed.linking import linked_items

    with _database(loaded) as database, database.read() as connection:
        step = steps.get(connection, number)
        if step is None:
            raise fail(f"there is no procedure step {number}")
        print(f"step: {step.id}")
        print(f"SOP instance: {step.sop_instance_uid}")
        print(f"status: {step.status.value}")
        print(f"from: {step.peer.calling_ae_title}, {step.peer.address}, to {step.peer.called_ae_title}")
        print(f"begun: {local_time(step.created_at)}")
        print(f"changed: {local_time(step.changed_at)}")
        for item in linked_items(connection, step.id):
            print(f"item: {item.id}, {item.status.value}")
        for line in attribute_lines(step.attributes):
            print(line)


@app.command()
def discontinue(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """End steps that their modality will never end, as DISCONTINUED. Their items follow, and receivers are told."""
    from worklist.performed.requirements import StepStatus

    _end(numbers, StepStatus.DISCONTINUED, load(configuration)[1])


@app.command()
def complete(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """End steps as COMPLETED: the examination is done, the modality has only not said so. What follows is the same."""
    from worklist.performed.requirements import StepStatus

    _end(numbers, StepStatus.COMPLETED, load(configuration)[1])


def _end(numbers: list[int], status: "StepStatus", configuration: Configuration) -> None:
    """All of them or none."""
    from worklist import store
    from worklist.performed import steps
    from worklist.performed.requirements import StepRefused

    lines = []
    with _database(configuration) as database, database.write(lock=store.LOCK) as connection:
        for number in numbers:
            try:
                step = steps.get(connection, number)
                called = step.peer.called_ae_title if step is not None else ""
                reported = steps.end(
                    connection, number, status, store.Change.now(person()), _partitions(configuration, called)
                )
            except StepRefused as error:
                raise fail(str(error)) from error
            items = ", ".join(f"item {item.id} {item.status.value}" for item in reported.items)
            lines.append(f"step {number}: {status.value}; {items or 'no items'}")
    print("\n".join(lines))


def _partitions(configuration: Configuration, called: str) -> tuple[str, ...] | None:
    """The Worklist Labels of items that a step can be about, as when its modality reports it."""
    options = configuration.worklist
    return (called, "") if options is not None and options.partition_by_called_aet else None


@contextmanager
def _database(configuration: Configuration) -> Iterator["Database"]:
    """The store, if there is one; what goes wrong with it ends the command."""
    if configuration.worklist is None:
        raise fail("there is no MPPS: the worklist is off")
    with open_database(configuration) as database:
        yield database
