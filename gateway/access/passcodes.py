"""Hashes of passcodes, as `dicom-gateway hash-password` makes them: scrypt$N$R$P$SALT$KEY, RFC 7914, in base64."""

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final

# 16 MiB of memory and some 30 ms for each attempt.
COST: Final = 2**14
BLOCK_SIZE: Final = 8
PARALLELIZATION: Final = 1
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32

# What a hash in the configuration may ask for.
MAXIMUM_COST: Final = 2**17
MAXIMUM_BLOCK_SIZE: Final = 16
MAXIMUM_PARALLELIZATION: Final = 4
MAXIMUM_MEMORY_BYTES: Final = 128 * MAXIMUM_BLOCK_SIZE * (MAXIMUM_COST + MAXIMUM_PARALLELIZATION + 2)

# Longer ones are refused without a look at them.
MAXIMUM_PASSCODE_BYTES: Final = 1024

_SCHEME: Final = "scrypt"


@dataclass(frozen=True, slots=True)
class PasscodeHash:
    """One hash. Text of it is in the configuration only."""

    cost: int
    block_size: int
    parallelization: int
    salt: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str) -> "PasscodeHash":
        """Read what `hash-password` wrote. Raises ValueError."""
        try:
            scheme, cost, block_size, parallelization, salt, key = text.split("$")
            numbers = int(cost), int(block_size), int(parallelization)
            parsed = cls(*numbers, base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True))
        except (ValueError, binascii.Error) as error:
            raise ValueError("expected a hash that `dicom-gateway hash-password` has made") from error
        within = (
            2 <= parsed.cost <= MAXIMUM_COST
            and parsed.cost & (parsed.cost - 1) == 0
            and 1 <= parsed.block_size <= MAXIMUM_BLOCK_SIZE
            and 1 <= parsed.parallelization <= MAXIMUM_PARALLELIZATION
        )
        if scheme != _SCHEME or not within or len(parsed.salt) < SALT_BYTES or len(parsed.key) < KEY_BYTES:
            raise ValueError("expected a hash that `dicom-gateway hash-password` has made")
        return parsed

    @classmethod
    def make(cls, passcode: bytes) -> "PasscodeHash":
        """Hash a passcode with a new salt."""
        empty = cls(COST, BLOCK_SIZE, PARALLELIZATION, os.urandom(SALT_BYTES), bytes(KEY_BYTES))
        return cls(COST, BLOCK_SIZE, PARALLELIZATION, empty.salt, empty._derive(passcode))

    def fits(self, passcode: bytes) -> bool:
        """Whether this is the hash of `passcode`; takes as long if it is not."""
        return hmac.compare_digest(self._derive(passcode), self.key)

    def __str__(self) -> str:
        salt, key = base64.b64encode(self.salt).decode(), base64.b64encode(self.key).decode()
        return f"{_SCHEME}${self.cost}${self.block_size}${self.parallelization}${salt}${key}"

    def _derive(self, passcode: bytes) -> bytes:
        return hashlib.scrypt(
            passcode,
            salt=self.salt,
            n=self.cost,
            r=self.block_size,
            p=self.parallelization,
            maxmem=MAXIMUM_MEMORY_BYTES,
            dklen=len(self.key),
        )
