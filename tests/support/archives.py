"""Archives for tests in which nobody asks them."""

from gateway.archive.interface import Archives
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.forwarding.transports import Endpoint


def no_archives() -> Archives:
    """An Orthanc that is not there."""
    return Archives(OrthancArchive(OrthancRest(Endpoint("http://127.0.0.1:9"), 2), Options("ORTHANC")), {})
