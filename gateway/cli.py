"""The command `dicom-gateway`: the roof towards a person."""

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import VERSION
from gateway.access.passcodes import MAXIMUM_PASSCODE_BYTES, PasscodeHash
from gateway.checks.configuration import describe
from gateway.commands import commitment, hl7, mpps, quota, worklist
from gateway.commands.common import EXIT_WRONG, ConfigurationOption, fail, load
from gateway.commands.readable import Listing
from gateway.deliveries import request_rescan
from gateway.dicom.part10 import Part10Error, read_meta
from gateway.modalities import KnownModalities
from gateway.options.orthanc_json import ConfigurationError
from gateway.spool import Spool, destination_of
from gateway.supervisor import supervisor

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A DICOM network gateway for Orthanc.")
queue = typer.Typer(no_args_is_help=True, help="The spool: what waits for its destination, what was refused.")
app.add_typer(queue, name="queue")
app.add_typer(commitment.app, name="commitment")
app.add_typer(quota.app, name="quota")
app.add_typer(worklist.app, name="worklist")
app.add_typer(mpps.app, name="mpps")
app.add_typer(hl7.app, name="hl7")

ConfigurationFile = Annotated[
    Path, typer.Argument(help="Orthanc's configuration: a file, or a folder of *.json files.", show_default=False)
]
Name = Annotated[list[str], typer.Argument(help="Names as `queue list` shows them.", show_default=False)]


@app.command()
def serve(file: ConfigurationFile) -> None:
    """Run the gateway without Orthanc's plugin. SIGTERM drains: no new associations, then the end."""
    settings, _configuration = load(file)
    raise typer.Exit(supervisor.serve(settings))


@app.command()
def check(file: ConfigurationFile) -> None:
    """Validate a configuration, say what it means and reach Orthanc. Nothing is bound or changed."""
    settings, configuration = load(file)
    wrong = False
    try:
        for line in describe(settings, configuration):
            print(line.text if line.ok else f"PROBLEM: {line.text}")
            wrong |= not line.ok
    except ConfigurationError as error:
        raise fail(str(error)) from error
    raise typer.Exit(EXIT_WRONG if wrong else 0)


@app.command()
def echo(
    target: Annotated[str, typer.Argument(help="A known modality's name, or AET@HOST:PORT.", show_default=False)],
    file: ConfigurationFile,
) -> None:
    """Send C-ECHO to a modality as the gateway would call it, and say what comes of each step."""
    # Only here: pynetdicom takes longer to import than the other commands to run.
    from scp.destinations import UnknownDestination, find_modality
    from scp.echo import verify

    _settings, configuration = load(file)
    try:
        modality = find_modality(KnownModalities(configuration).current(), target)
    except UnknownDestination as error:
        raise fail(str(error)) from error
    wrong = False
    for step in verify(configuration, modality):
        print(step.text if step.ok else f"PROBLEM: {step.text}")
        wrong |= not step.ok
    raise typer.Exit(EXIT_WRONG if wrong else 0)


@app.command()
def hash_password() -> None:
    """Ask for a passcode, or read it from standard input, and print the hash that Users.Accepted takes."""
    if sys.stdin.isatty():
        passcode = getpass.getpass("Passcode: ")
        if passcode != getpass.getpass("Once more: "):
            raise fail("the two are not the same")
    else:
        passcode = sys.stdin.readline().rstrip("\r\n")
    if not 0 < len(passcode.encode()) <= MAXIMUM_PASSCODE_BYTES:
        raise fail(f"expected a passcode of 1 to {MAXIMUM_PASSCODE_BYTES} bytes")
    print(PasscodeHash.make(passcode.encode()))


@app.command()
def version() -> None:
    """Print the version."""
    print(VERSION)


@queue.command("list")
def list_queue(configuration: ConfigurationOption) -> None:
    """List what waits for Orthanc or a DICOMweb server (ready) and what was refused (failed)."""
    spool = _spool(configuration)
    table = Listing("state", "name", "bytes", "age", "from", "to", "destination", "reason")
    for state, folder in (("ready", spool.ready), ("failed", spool.failed)):
        for name in spool.names(folder):
            row = _row(spool, state, folder / name)
            if row is not None:
                table.add_row(*row)
    table.print()


@queue.command()
def show(names: Name, configuration: ConfigurationOption) -> None:
    """Show one instance or several: who sent it, when, and why it failed."""
    spool = _spool(configuration)
    for name in names:
        path = _find(spool, name)
        for key, value in _details(spool, path).items():
            print(f"{key}: {value}")


@queue.command()
def retry(names: Name, configuration: ConfigurationOption) -> None:
    """Deliver failed instances again (`all` for every one)."""
    spool = _spool(configuration)
    for name in _expand(spool, names):
        _in_failed(spool, name)
        spool.retry(name)
        print(f"{name}: waits for {_destination(name)} again")
    if not request_rescan(spool.root.parent):
        print("no gateway runs on this spool: it will be delivered at the next start")


@queue.command()
def delete(names: Name, configuration: ConfigurationOption) -> None:
    """Delete failed instances for good (`all` for every one)."""
    spool = _spool(configuration)
    deleted = _expand(spool, names)
    for name in deleted:
        _in_failed(spool, name)
        spool.discard(name)
        print(f"{name}: deleted")
    quota.give_back(load(configuration)[1], deleted)


def _spool(path: Path) -> Spool:
    _settings, configuration = load(path)
    spool = Spool(configuration.state_directory)
    try:
        exists = spool.ready.is_dir()
    except OSError as error:
        text = f"{configuration.state_directory}: {error.strerror}: run this as the user of the gateway"
        raise fail(text) from error
    if not exists:
        raise fail(f"{configuration.state_directory} holds no spool")
    return spool


def _expand(spool: Spool, names: list[str]) -> list[str]:
    return spool.names(spool.failed) if names == ["all"] else names


def _in_failed(spool: Spool, name: str) -> None:
    if name not in spool.names(spool.failed):
        raise fail(f"{name} is not in failed")


def _find(spool: Spool, name: str) -> Path:
    for folder in (spool.failed, spool.ready, spool.delivered):
        if name in spool.names(folder):
            return folder / name
    raise fail(f"{name} is not in the spool")


def _row(spool: Spool, state: str, path: Path) -> list[str] | None:
    try:
        details = _details(spool, path)
    except FileNotFoundError:
        return None  # delivered while we looked
    return [
        state,
        path.name,
        str(details["bytes"]),
        str(details["age"]),
        str(details.get("calling AE title", "")),
        str(details.get("called AE title", "")),
        str(details["destination"]),
        str(details.get("reason", "")),
    ]


def _details(spool: Spool, path: Path) -> dict[str, Any]:
    status = path.stat()
    details: dict[str, Any] = {
        "name": path.name,
        "state": path.parent.name,
        "destination": _destination(path.name),
        "bytes": status.st_size,
        "age": f"{max(0.0, time.time() - status.st_mtime):.0f} s",
    }
    try:
        with path.open("rb") as file:
            meta, _offset = read_meta(file.fileno())
    except Part10Error as error:
        details["file meta information"] = f"unreadable: {error}"
    else:
        details |= {
            "SOP Instance UID": meta.sop_instance_uid,
            "SOP Class UID": meta.sop_class_uid,
            "Transfer Syntax UID": meta.transfer_syntax_uid,
            "calling AE title": meta.sending_ae_title,
            "called AE title": meta.receiving_ae_title,
            "sender": meta.sending_address,
        }
    return details | spool.note(path.name)


def _destination(name: str) -> str:
    return destination_of(name) or "Orthanc"


def main() -> None:
    """Entry point of the command `dicom-gateway`."""
    app()


if __name__ == "__main__":
    main()
