"""The exception of the plugin's API, and the errors that are raised here."""

from __future__ import annotations

from typing import Final

INTERNAL_ERROR: Final = (-1, "Internal error")
NOT_IMPLEMENTED: Final = 2
PARAMETER_OUT_OF_RANGE: Final = (3, "Parameter out of range")
NOT_ENOUGH_MEMORY: Final = (4, "The server hosting Orthanc is running out of memory")
NETWORK_PROTOCOL: Final = 9
BAD_FILE_FORMAT: Final = (15, "Bad file format")
UNKNOWN_RESOURCE: Final = (17, "Unknown resource")


class OrthancException(Exception):
    """`args` are an error code (ErrorCode) and a text, as in the plugin."""


# Under this name it is printed by scripts, and pickled.
OrthancException.__module__ = "orthanc"
