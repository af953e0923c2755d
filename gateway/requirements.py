"""What must hold before anything is started."""

from gateway.child import Settings
from gateway.config import Configuration


class FatalError(Exception):
    """The gateway cannot start. The text is one line for a person."""


def check_requirements(settings: Settings, configuration: Configuration) -> None:
    """What must hold before anything is started. Raises FatalError."""
    options = configuration.orthanc
    if settings.in_orthanc and options.dicom_server_enabled:
        raise FatalError('Orthanc\'s own SCP is on: set "DicomServerEnabled": false, the gateway takes its place')
    if settings.in_orthanc and not options.http_server_enabled and configuration.gateway.orthanc is None:
        raise FatalError('"HttpServerEnabled" is false: the gateway needs Orthanc\'s REST API on loopback')
    if settings.content.get("DicomTlsEnabled") is True:
        raise FatalError('"DicomTlsEnabled" is true, but the gateway does not speak TLS yet: the port would be open')
