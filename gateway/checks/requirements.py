"""What must hold before anything is started."""

import os
from typing import Final

from gateway.archive.set_up import dicomweb_clients
from gateway.child import Settings
from gateway.deliveries import SOCKET_NAME
from gateway.moves.site_drivers import site_drivers
from gateway.options.config import Configuration
from gateway.options.orthanc_json import ConfigurationError
from gateway.receiver_connection import receiver_context
from gateway.tls.context import TlsError, files_of, files_of_hl7, make_context

# unix(7): sun_path holds 108 bytes with its final NUL.
MAXIMUM_SOCKET_PATH_BYTES: Final = 107


class FatalError(Exception):
    """The gateway cannot start. The text is one line for a person."""


def check_requirements(settings: Settings, configuration: Configuration) -> None:
    """What must hold before anything is started. Raises FatalError."""
    options = configuration.orthanc
    if settings.in_orthanc and options.dicom_server_enabled:
        raise FatalError('Orthanc\'s own SCP is on: set "DicomServerEnabled": false, the gateway takes its place')
    if settings.in_orthanc and not options.http_server_enabled and configuration.gateway.orthanc is None:
        raise FatalError('"HttpServerEnabled" is false: the gateway needs Orthanc\'s REST API on loopback')
    if options.dicom_tls_enabled:
        try:
            make_context(files_of(configuration), options.tls_policy())
        except TlsError as error:
            raise FatalError(str(error)) from error
    _check_hl7(configuration)
    try:
        dicomweb_clients(configuration)
        site_drivers(configuration)
    except ConfigurationError as error:
        raise FatalError(str(error)) from error
    excess = len(os.fsencode(configuration.state_directory / SOCKET_NAME)) - MAXIMUM_SOCKET_PATH_BYTES
    if excess > 0:
        raise FatalError(f"DicomGateway.StateDirectory: the path is {excess} bytes too long for a socket in it")


def _check_hl7(configuration: Configuration) -> None:
    section = configuration.gateway.hl7
    if section is None:
        return
    if section.port == configuration.orthanc.dicom_port:
        raise FatalError("DicomGateway.Hl7.Port: is the DICOM port too")
    files = files_of_hl7(configuration, section)
    if files is not None:
        try:
            make_context(files, configuration.orthanc.tls_policy())
        except (TlsError, ValueError) as error:
            raise FatalError(str(error)) from error
    for receiver in section.receivers:
        try:
            receiver_context(configuration, receiver)
        except TlsError as error:
            raise FatalError(str(error)) from error
