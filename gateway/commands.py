"""What the groups of commands of `dicom-gateway` have in common."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway import config
from gateway.child import Settings
from gateway.config import Configuration
from gateway.orthanc_json import ConfigurationError, read_configuration

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
