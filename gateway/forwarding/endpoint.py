"""Where Orthanc's REST API is, and what opens it."""

from gateway.child import Settings
from gateway.forwarding.transports import Endpoint
from gateway.options.config import Configuration, password


def endpoint(settings: Settings, configuration: Configuration) -> Endpoint:
    """Where Orthanc's REST API is: inside Orthanc from its own options, else from `DicomGateway.Orthanc`."""
    timeout = configuration.gateway.forwarding.timeout
    section = configuration.gateway.orthanc
    if section is None:
        options = configuration.orthanc
        scheme = "https" if options.ssl_enabled else "http"
        return Endpoint(
            url=f"{scheme}://127.0.0.1:{options.http_port}",
            authorization=settings.authorization,
            ca_file=str(configuration.path(options.ssl_certificate)) if options.ssl_enabled else None,
            check_hostname=False,
            timeout_s=timeout,
        )
    secret = password(section, configuration)
    return Endpoint(
        url=section.url.rstrip("/"),
        credentials=(section.username, secret or "") if section.username is not None else None,
        ca_file=str(configuration.path(section.ca_file)) if section.ca_file is not None else None,
        timeout_s=timeout,
    )
