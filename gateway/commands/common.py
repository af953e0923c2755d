"""What the groups of commands of `dicom-gateway` have in common."""

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.child import Settings
from gateway.options import config
from gateway.options.config import Configuration
from gateway.options.orthanc_json import ConfigurationError, read_configuration

if TYPE_CHECKING:
    from gateway.database import Database

EXIT_WRONG = 1

ConfigurationOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="DICOM_GATEWAY_CONFIG",
        help="Orthanc's configuration, to find the state directory.",
        show_default=False,
    ),
]


def fail(text: str) -> typer.Exit:
    """Say what is wrong; the exception ends the command."""
    print(f"dicom-gateway: {text}", file=sys.stderr)
    return typer.Exit(EXIT_WRONG)


def load(path: Path) -> tuple[Settings, Configuration]:
    """Read and validate the configuration `path`, or end the command."""
    try:
        content = read_configuration(path, os.environ)
        base = (path if path.is_dir() else path.parent).absolute()
        return Settings(content, str(base)), config.parse(content, base)
    except ConfigurationError as error:
        raise fail(str(error)) from error


@contextmanager
def open_database(configuration: Configuration) -> Iterator["Database"]:
    """The database of a gateway that has been started; what goes wrong with it ends the command."""
    # Imported here: most commands need none.
    from gateway import database

    if configuration.gateway.database is None:
        path = configuration.state_directory / database.SQLITE_NAME
        try:
            exists = path.is_file()
        except OSError as error:
            raise fail(f"{path}: {error.strerror}: run this as the user of the gateway") from error
        if not exists:  # made by whoever runs this it would not be the gateway's
            raise fail(f"there is no {path}: start the gateway first")
    opened = database.connect(configuration)
    try:
        yield opened
    except database.DatabaseError as error:
        raise fail(f"the database fails: {error}") from error
    finally:
        opened.close()


def person() -> str:
    """Who runs this, for histories."""
    try:
        return f"command line {getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name
        return "command line"
