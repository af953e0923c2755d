"""The A-ASSOCIATE indication (PS3.8 7.1.1) as pynetdicom's state machine knows it: all that it is asked for."""

from typing import Final

from pynetdicom.pdu_primitives import A_ASSOCIATE

from scp.associate_request import AssociateRequest

# PS3.8 table 9-11: of the protocol version only bit 0 shall be tested. The state machine compares the whole field.
VERSION_1: Final = 0x0001


class AssociateIndication(A_ASSOCIATE):
    """The primitive of a received `request`. To the state machine also the PDU that it comes from (AE-6)."""

    def __init__(self, request: AssociateRequest) -> None:
        super().__init__()
        self.request = request

    @property
    def protocol_version(self) -> int:
        """1 if the peer supports it."""
        version = self.request.protocol_version
        return VERSION_1 if version & VERSION_1 else version

    def to_primitive(self) -> "AssociateIndication":
        """See the class."""
        return self
