"""What a listener says that acts on nothing."""

from sqlalchemy import Connection

from gateway.config import Configuration
from worklist.hl7.errors import ErrorCode, NotSupported
from worklist.hl7.handling import Handler, Received, Result


class NoOrders:
    """Refuses every message."""

    def handle(self, received: Received, _connection: Connection) -> Result:
        """AR."""
        raise NotSupported(ErrorCode.UNSUPPORTED_MESSAGE_TYPE, f"{received.header.type_and_event} is not supported")


def make_handler(_configuration: Configuration) -> Handler:
    """The handler."""
    return NoOrders()
