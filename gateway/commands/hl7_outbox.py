"""`dicom-gateway hl7 outbox`: the roof towards a person who asks what the RIS was told, and tells it again."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.common import ConfigurationOption, fail, load, open_database
from gateway.commands.readable import Listing, exact_local_time
from gateway.printable import printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from worklist.feedback.outbox import Entry

app = typer.Typer(no_args_is_help=True, help="Messages to the RIS: what changes of worklist items.")

Numbers = Annotated[list[int] | None, typer.Argument(help="Messages as `outbox list` shows them.", show_default=False)]


@app.command("list")
def list_messages(
    configuration: ConfigurationOption,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    state: Annotated[list[str] | None, typer.Option(help="waiting, accepted, refused or discarded.")] = None,
    receiver: Annotated[str, typer.Option(help="Its name.")] = "",
    item: Annotated[int | None, typer.Option(help="An item of the worklist.", show_default=False)] = None,
) -> None:
    """List messages, the oldest first, and the receivers."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from worklist.feedback import outbox, receivers
    from worklist.feedback.outbox import State

    if not set(state or ()) <= {each.value for each in State}:
        raise fail(f"--state: expected {', '.join(State)}")
    states = [State(each) for each in state or ()]
    table = Listing("message", "changed", "receiver", "item", "status", "state", "sent", "times", "outcome", "text")
    with open_database(loaded) as database, database.read() as connection:
        entries = outbox.latest(connection, limit, receiver=receiver, item=item, states=states)
        counts, known = outbox.counts(connection), receivers.known(connection)
    for entry in reversed(entries):
        table.add_row(
            str(entry.id),
            exact_local_time(entry.at),
            entry.receiver,
            str(entry.item),
            entry.status,
            entry.state,
            exact_local_time(entry.sent_at),
            str(entry.attempts),
            entry.outcome,
            entry.text,
        )
    table.print()
    for one in known:
        numbers = ", ".join(
            f"{count} {each.value}" for each in State if (count := counts.get((one.name, each.value), 0))
        )
        trouble = f"; since {exact_local_time(one.trouble_since)}: {printable(one.trouble)}" if one.trouble else ""
        print(f"receiver {one.name}: {numbers or 'nothing'}{trouble}")
    for name in sorted({name for name, each in counts if each == State.WAITING} - {one.name for one in known}):
        print(f"receiver {name}: {counts[name, State.WAITING.value]} waiting; no gateway has this receiver any more")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="As `outbox list` shows it.", show_default=False)],
    configuration: ConfigurationOption,
    raw: Annotated[bool, typer.Option("--raw", help="Write the message only, byte by byte as it is sent.")] = False,
) -> None:
    """Show a message: what it tells to whom, its segments, and the last acknowledgement. This is patient data."""
    loaded = load(configuration)[1]
    from worklist.feedback import outbox
    from worklist.hl7 import decoding

    with open_database(loaded) as database, database.read() as connection:
        found = outbox.get(connection, number)
    if found is None:
        raise fail(f"there is no message {number}")
    entry, body, acknowledgement = found
    if raw:
        if body is None:
            raise fail(f"message {number} was not sent yet: it is written when it is")
        sys.stdout.buffer.write(body)
        return
    for line in _lines(entry):
        print(line)
    for title, data in (("message", body), ("acknowledgement", acknowledgement)):
        if data is not None:
            print(f"{title}:")
            for segment in decoding.readable(data, "8859/1").split("\n"):
                print(f"    {segment}")


@app.command()
def resend(
    configuration: ConfigurationOption,
    numbers: Numbers = None,
    receiver: Annotated[
        str, typer.Option(help="All that it refused, but what it has learnt by a later message about the item.")
    ] = "",
) -> None:
    """Send messages again, made anew by the configuration as it is now, and with another MSH-10."""
    loaded = load(configuration)[1]
    from worklist.feedback import outbox
    from worklist.store import LOCK

    with open_database(loaded) as database, database.write(lock=LOCK) as connection:
        chosen = outbox.refused_and_current(connection, receiver) if receiver else _existing(connection, numbers)
        count = outbox.resend(connection, chosen)
    print(f"messages that will be sent again: {count}")


@app.command()
def discard(
    configuration: ConfigurationOption,
    numbers: Numbers = None,
    receiver: Annotated[str, typer.Option(help="All that wait for it.")] = "",
) -> None:
    """Do not send messages that wait. The receiver never learns of these changes."""
    loaded = load(configuration)[1]
    from worklist.feedback import outbox
    from worklist.store import LOCK

    with open_database(loaded) as database, database.write(lock=LOCK) as connection:
        chosen = outbox.waiting(connection, receiver) if receiver else _existing(connection, numbers)
        count = outbox.discard(connection, chosen, time.time_ns())
    print(f"messages that will not be sent: {count}")


def _existing(connection: "Connection", numbers: list[int] | None) -> list[int]:
    from worklist.feedback import outbox

    if not numbers:
        raise fail("which messages? expected numbers, or --receiver")
    for number in numbers:
        if outbox.get(connection, number) is None:
            raise fail(f"there is no message {number}")
    return numbers


def _lines(entry: "Entry") -> list[str]:
    lines = [
        f"message: {entry.id}",
        f"receiver: {entry.receiver}",
        f"item: {entry.item}",
        f"change: {entry.previous} to {entry.status}, {exact_local_time(entry.at)}, by {printable(entry.who)}",
        f"control id: {entry.control_id}",
        f"state: {entry.state}",
    ]
    if entry.attempts:
        lines.append(f"attempts: {entry.attempts}, last {exact_local_time(entry.sent_at)}")
    if entry.state == "waiting" and entry.due_at:
        lines.append(f"again: {exact_local_time(entry.due_at)}")
    if entry.outcome:
        lines.append(f"outcome: {entry.outcome}")
    if entry.text:
        lines.append(f"text: {printable(entry.text)}")
    return lines
