"""`dicom-gateway commitment`: the roof towards a person who asks what became of a request for storage commitment."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.common import ConfigurationOption, fail, load, open_database
from gateway.commands.readable import Listing, local_time
from gateway.options.config import Configuration

if TYPE_CHECKING:
    from storage_commitment.store import Transaction

app = typer.Typer(no_args_is_help=True, help="Storage commitment: who asked whether its images are safe, and was told.")

Numbers = Annotated[list[int], typer.Argument(help="As `commitment list` shows them.", show_default=False)]


@app.command("list")
def list_transactions(
    configuration: ConfigurationOption,
    state: Annotated[str, typer.Option(help="pending, reported, or given-up; else all.")] = "",
    requester: Annotated[str, typer.Option(help="Calling AE title.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 50,
) -> None:
    """List the requests that came last, the oldest first."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from storage_commitment import store
    from storage_commitment.store import State

    names = {one.value.replace(" ", "-"): one for one in State}
    if state and state not in names:
        raise fail(f"--state: expected {', '.join(names)}")
    table = Listing(
        "request", "received", "requester", "transaction", "instances", "failed", "state", "attempts", "next", "last"
    )
    with open_database(loaded) as database, database.read() as connection:
        found = store.summaries(connection, state=names.get(state), requester=requester, limit=limit)
    for one in reversed(found):
        table.add_row(
            str(one.id),
            local_time(one.received_at),
            one.requester,
            one.transaction_uid,
            str(one.instances),
            str(one.failed) if one.verified_at is not None else "",
            one.state.value,
            str(one.attempts),
            local_time(one.due_at) if one.state is State.PENDING else "",
            one.note,
        )
    table.print()


@app.command()
def show(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """Show requests: what was asked, which instances are not committed and why, what happened last."""
    loaded = load(configuration)[1]
    from storage_commitment import store

    with open_database(loaded) as database, database.read() as connection:
        for number in numbers:
            transaction = store.load(connection, number)
            if transaction is None:
                raise fail(f"there is no request {number}")
            _print(transaction)


@app.command()
def resend(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """Verify and report again, at once; for a report that was given up or did not help."""
    loaded = load(configuration)[1]
    from gateway.quotas.identity import gateway_identity
    from storage_commitment import store

    gateway = gateway_identity(loaded.state_directory)
    with open_database(loaded) as database, database.write(lock=store.LOCK) as connection:
        for number in numbers:
            if not store.resend(connection, number, gateway, time.time_ns()):
                raise fail(f"there is no request {number}")
    _poke(loaded)
    for number in numbers:
        print(f"{number}: is reported again")


@app.command()
def delete(numbers: Numbers, configuration: ConfigurationOption) -> None:
    """Forget requests: what is not reported yet will not be."""
    loaded = load(configuration)[1]
    from storage_commitment import store

    with open_database(loaded) as database, database.write(lock=store.LOCK) as connection:
        for number in numbers:
            if not store.remove(connection, number):
                raise fail(f"there is no request {number}")
    for number in numbers:
        print(f"{number}: deleted")


def _print(transaction: "Transaction") -> None:
    requester, request = transaction.requester, transaction.request
    print(f"request: {transaction.id}")
    print(f"transaction: {request.transaction_uid}")
    print(f"from: {requester.ae_title} at {requester.address}, to {requester.called_ae_title}")
    print(f"received: {local_time(transaction.received_at)}")
    print(f"state: {transaction.state.value}, attempts: {transaction.attempts}")
    if transaction.note:
        print(f"last: {transaction.note}")
    if transaction.is_duplicate:
        print("its Transaction UID is that of another request")
    if transaction.verified_at is not None:
        print(f"verified: {local_time(transaction.verified_at)}")
    for reference in request.references:
        reason = transaction.failures.get(reference.sop_instance_uid)
        said = (
            f"0x{reason.value:04X} {reason.name}" if reason else "committed" if transaction.verified_at else "unknown"
        )
        print(f"{reference.sop_instance_uid} {reference.sop_class_uid} {said}")


def _poke(configuration: Configuration) -> None:
    from storage_commitment.channel import poke

    if not poke(configuration.state_directory):
        print("the gateway does not run: it happens when it is started", file=sys.stderr)
