"""What the groups of commands of `dicom-gateway` have in common."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import config
from gateway.child import Settings
from gateway.config import Configuration
from gateway.orthanc_json import ConfigurationError, read_configuration

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
    """The database of the gateway; what goes wrong with it ends the command."""
    # Imported here: most commands need none.
    from gateway import database

    path = configuration.state_directory / database.SQLITE_NAME
    try:
        if configuration.gateway.database is None and not path.is_file():
            raise fail(f"{configuration.state_directory} holds no database: has the gateway been started?")
    except PermissionError as error:
        text = f"{configuration.state_directory}: {error.strerror}: run this as the user of the gateway"
        raise fail(text) from error
    try:
        opened = database.connect(configuration)
        try:
            yield opened
        finally:
            opened.close()
    except database.DatabaseError as error:
        raise fail(f"cannot use the database: {error}") from error
