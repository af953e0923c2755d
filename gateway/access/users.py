"""User identity negotiation (PS3.7 D.3.3.7): who may associate, by `DicomGateway.Users`.

Without a list of users every identity is accepted (PS3.15 B.4: the passcode need not be verified).
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.access.admission import Refusal, Rejection
from gateway.access.passcodes import MAXIMUM_PASSCODE_BYTES, PasscodeHash
from gateway.options.gateway import UsersSection

# Each process verifies one passcode at a time, for that needs a core and 16 MiB. How long others wait for their turn.
VERIFICATION_TIMEOUT_S: Final = 10.0

LOGGED_NAME_CHARACTERS: Final = 64


USERNAME: Final = 1
USERNAME_AND_PASSCODE: Final = 2
# User-Identity-Type (PS3.7 table D.3-14) in words. Of the first two the primary field is a name, and the positive
# response is empty (PS3.7 D.3.3.7.2).
TYPES: Final = {
    USERNAME: "user name",
    USERNAME_AND_PASSCODE: "user name and passcode",
    3: "Kerberos ticket",
    4: "SAML assertion",
    5: "JSON Web Token",
}


class UserIdentity(Protocol):
    """What the association-requestor offers. The secondary field is the passcode, and goes into no log."""

    @property
    def type(self) -> int:
        """User-Identity-Type."""

    @property
    def response_requested(self) -> bool:
        """Whether a positive response is requested."""

    @property
    def primary(self) -> bytes:
        """The name in UTF-8, the ticket, the assertion or the token."""

    @property
    def secondary(self) -> bytes:
        """The passcode."""


def user_name(identity: UserIdentity) -> str:
    """Return the user name for the log; of a ticket, an assertion or a token only what it is."""
    if identity.type not in (USERNAME, USERNAME_AND_PASSCODE):
        return f"({_type(identity)})"
    return identity.primary.decode("utf-8", "backslashreplace")[:LOGGED_NAME_CHARACTERS]


def _type(identity: UserIdentity) -> str:
    return TYPES.get(identity.type, f"type {identity.type}")


@dataclass(frozen=True, slots=True)
class UserVerdict:
    """Whether the association goes on, and the Server-response of the A-ASSOCIATE-AC, None for no such sub-item."""

    rejection: Rejection | None = None
    response: bytes | None = None


class Users:
    """The users of one configuration; thread-safe."""

    def __init__(self, section: UsersSection | None) -> None:
        self._required = section is not None and section.required
        self._hashes: dict[bytes, PasscodeHash | None] | None = None
        self._turn = threading.Lock()
        if section is not None:
            self._hashes = {name.encode(): _hash(text) for name, text in section.accepted.items()}
            # Verified in the place of a user that does not exist, so that the time tells nothing.
            self._nobody = PasscodeHash.make(b"")

    def judge(self, identity: UserIdentity | None) -> UserVerdict:
        """Return what becomes of the association of a requestor with this identity, None if it offers none."""
        if identity is None:
            return UserVerdict(_refused("no user identity, and Users.Required is true") if self._required else None)
        rejection = None if self._hashes is None else self._verify(identity, self._hashes)
        # Of the others a response would have to be a ticket or an assertion, which nobody here can make.
        wanted = identity.response_requested and identity.type in (USERNAME, USERNAME_AND_PASSCODE)
        return UserVerdict(rejection, b"" if wanted and rejection is None else None)

    def _verify(self, identity: UserIdentity, hashes: Mapping[bytes, PasscodeHash | None]) -> Rejection | None:
        if identity.type not in (USERNAME, USERNAME_AND_PASSCODE):
            return _refused(f"{_type(identity)} as user identity, and Users knows names and passcodes only")
        known = identity.primary in hashes
        expected = hashes.get(identity.primary)
        if known and expected is None:
            return None
        if identity.type == USERNAME:
            return _refused("a user name without passcode" if known else "the user is not in Users.Accepted")
        if len(identity.secondary) > MAXIMUM_PASSCODE_BYTES:
            return _refused(f"a passcode of more than {MAXIMUM_PASSCODE_BYTES} bytes")
        if not self._turn.acquire(timeout=VERIFICATION_TIMEOUT_S):
            return Rejection(Refusal.TEMPORARY_CONGESTION, "too many passcodes wait to be verified")
        try:
            fits = (expected or self._nobody).fits(identity.secondary)
        finally:
            self._turn.release()
        if not known:
            return _refused("the user is not in Users.Accepted")
        return None if fits else _refused("the passcode is wrong")


def _hash(text: str | None) -> PasscodeHash | None:
    return None if text is None else PasscodeHash.parse(text)


def _refused(explanation: str) -> Rejection:
    return Rejection(Refusal.USER_NOT_ACCEPTED, explanation, "DicomGateway.Users")
