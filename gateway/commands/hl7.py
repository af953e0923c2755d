"""`dicom-gateway hl7`: the roof towards a person who asks what the RIS sent, and what it was told."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import hl7_outbox
from gateway.commands.common import ConfigurationOption, fail, load, open_database
from gateway.commands.readable import Listing, exact_local_time
from gateway.printable import printable

if TYPE_CHECKING:
    from worklist.hl7.message_log import Entry

app = typer.Typer(no_args_is_help=True, help="HL7 messages: who sent what, and what came of it.")
app.add_typer(hl7_outbox.app, name="outbox")

# How messages without acknowledgement are called.
UNANSWERED = "none"


@app.command("list")
def list_messages(
    configuration: ConfigurationOption,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    outcome: Annotated[list[str] | None, typer.Option(help="AA, AE, AR or none; may be repeated.")] = None,
    sender: Annotated[str, typer.Option(help="MSH-3, or the address.")] = "",
    control_id: Annotated[str, typer.Option(help="MSH-10.")] = "",
) -> None:
    """List the messages that came last, the oldest first."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from worklist.hl7 import message_log

    wanted = [code.upper() if code != UNANSWERED else "" for code in outcome or []]
    if not set(wanted) <= {"AA", "AE", "AR", ""}:
        raise fail(f"--outcome: expected AA, AE, AR or {UNANSWERED}")
    table = Listing("message", "received", "times", "peer", "sender", "type", "control id", "outcome", "text")
    with open_database(loaded) as database, database.read() as connection:
        entries = message_log.latest(connection, limit, outcomes=wanted, sender=sender, control_id=control_id)
    for entry in reversed(entries):
        table.add_row(
            str(entry.id),
            exact_local_time(entry.last_received_at),
            str(entry.times_received),
            entry.peer,
            _sender(entry),
            entry.type,
            entry.control_id,
            _outcome(entry),
            entry.text,
        )
    table.print()


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="As `hl7 list` shows it.", show_default=False)],
    configuration: ConfigurationOption,
    raw: Annotated[bool, typer.Option("--raw", help="Write the message only, byte by byte as it came.")] = False,
) -> None:
    """Show a message: who sent it, what came of it, its segments, and the acknowledgement. This is patient data."""
    loaded = load(configuration)[1]
    section = loaded.gateway.hl7
    from gateway.options.hl7 import Hl7Section
    from worklist.hl7 import decoding, message_log

    with open_database(loaded) as database, database.read() as connection:
        found = message_log.get(connection, number)
    if found is None:
        raise fail(f"there is no message {number}")
    entry, body, acknowledgement = found
    if raw:
        sys.stdout.buffer.write(body)
        return
    print(f"message: {entry.id}")
    print(f"received: {exact_local_time(entry.received_at)}")
    if entry.times_received > 1:
        print(f"times: {entry.times_received}, last {exact_local_time(entry.last_received_at)}")
    print(f"peer: {entry.peer}")
    print(f"sender: {printable(_sender(entry))}")
    print(f"type: {printable(entry.type)}")
    print(f"control id: {printable(entry.control_id)}")
    print(f"outcome: {_outcome(entry)}")
    if entry.text:
        print(f"text: {printable(entry.text)}")
    default = (section or Hl7Section()).default_character_set
    for title, data in (("as it came", body), ("acknowledgement", acknowledgement)):
        print(f"{title}:")
        for line in decoding.readable(data, default).split("\n"):
            print(f"    {line}")


def _sender(entry: "Entry") -> str:
    return "|".join(part for part in (entry.sending_application, entry.sending_facility) if part)


def _outcome(entry: "Entry") -> str:
    error = f" {entry.error_code}" if entry.error_code else ""
    location = f" {entry.error_location}" if entry.error_location else ""
    return f"{entry.outcome or UNANSWERED}{error}{location}"
