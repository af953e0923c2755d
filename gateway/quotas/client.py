"""A receiving process's side of the quotas: parts of the limits that it has leased, and the line to the keeper.

As long as a lease lasts a reservation is arithmetic under a lock; more is asked for before it runs out. What was
accepted is told behind the acknowledgement, many at once, and kept in memory until the keeper has it in its books; the
spool has it in any case.
"""

import contextlib
import itertools
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.log import get_logger
from gateway.quotas.accounts import Account, Amount
from gateway.quotas.entries import Entry
from gateway.quotas.gate import SOCKET_NAME

RECONNECT_DELAY_S: Final = 0.2
SEND_TIMEOUT_S: Final = 2.0
# A keeper that is just being started is waited for.
CONNECT_TIMEOUT_S: Final = 5.0
# The keeper waits a second for others before it refuses; a database may need a moment.
REPLY_TIMEOUT_S: Final = 10.0
# Entries are told together: each message wakes the keeper.
LINGER_S: Final = 0.2
MAXIMUM_ENTRIES: Final = 500
# Others wait for a second; what comes back later finds nobody.
RECALL_S: Final = 2.0
# What was leased and not used for so long is given back.
IDLE_S: Final = 5.0


class Unavailable(Exception):
    """The keeper or its database does not answer. The text is for the Error Comment."""


class Exhausted(Exception):
    """The account has nothing left: of instances, or of bytes."""

    def __init__(self, account: Account, *, instances: bool) -> None:
        super().__init__(account)
        self.account = account
        self.instances = instances


_NOTHING: Final = Amount()


@dataclass
class _Lease:
    """What is left of the leases of one account."""

    instances: int = 0
    bytes: int = 0
    last: Amount = _NOTHING
    is_asked: bool = False
    used_at: float = field(default_factory=time.monotonic)


class QuotaClient:
    """The leases of one process. Thread-safe; reconnects by itself."""

    def __init__(self, state_directory: Path, holder: str) -> None:
        self._address = str(state_directory / SOCKET_NAME)
        self._holder = holder
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_connected = threading.Event()
        self._leases: dict[Account, _Lease] = {}
        # Reserved for instances that are being received: nobody else's, and not used yet.
        self._reserved: dict[Account, Amount] = {}
        # Until when others wait for what is reserved now and may not be needed.
        self._recalled: dict[Account, float] = {}
        self._entries: list[Entry] = []
        self._unconfirmed: dict[str, Entry] = {}
        self._numbers = itertools.count(1)
        self._replies: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._asked: dict[int, Account] = {}
        self._has_entries = threading.Event()
        self._log = get_logger()
        threading.Thread(target=self._run, name="quotas", daemon=True).start()
        threading.Thread(target=self._tell, name="quotas-entries", daemon=True).start()

    def reserve(self, amounts: Sequence[tuple[Account, Amount]]) -> None:
        """Take all of `amounts` out of the leases, leasing more if need be. Raises Exhausted, Unavailable."""
        while True:  # what was leased for us may be taken by another association, or called back
            with self._lock:
                lacking = next((each for each in amounts if not self.has_some(*each)), None)
                if lacking is None:
                    for account, amount in amounts:
                        self._take(account, amount)
                    return
            self.lease(*lacking)

    def lease(self, account: Account, amount: Amount) -> None:
        """Have so much of `account` leased that `amount` is left. Raises Exhausted, Unavailable."""
        with self._lock:
            missing = self._missing(account, amount)
        self.flush()
        reply = self._ask({"want": [*account, *missing]}, account)
        if reply["amount"] is None:
            raise Exhausted(account, instances=bool(reply["instances"]))

    def has_some(self, account: Account, amount: Amount) -> bool:
        """Whether so much is leased and left right now. Takes no lock: somebody else may take it before us."""
        lease = self._leases.get(account)
        return lease is not None and lease.instances >= amount.instances and lease.bytes >= amount.bytes

    def give_up(self, amounts: Iterable[tuple[Account, Amount]]) -> None:
        """A reservation is not needed: the instance was refused or never came to an end."""
        with self._lock:
            for account, amount in amounts:
                self._unreserve(account, amount)
                self._add(account, amount)
                if time.monotonic() < self._recalled.get(account, 0.0):
                    self._give_back([account])

    def is_held(self, sop_instance_uid: str) -> bool:
        """Whether an instance of this UID is held. Raises Unavailable."""
        self.flush()
        return bool(self._ask({"held": sop_instance_uid})["ok"])

    def claim(self, entry: Entry) -> bool:
        """Whether `entry` is identical to what is held: then it is in the books, at no cost. Raises Unavailable."""
        self.flush()
        return bool(self._ask({"claim": entry})["ok"])

    def keep_claimed(self, name: str) -> None:
        """What was claimed is safe in the spool."""
        self._send({"kept": name})

    def drop_claimed(self, name: str) -> None:
        """What was claimed has not been kept."""
        self._send({"gone": [name], "number": next(self._numbers)})

    def accepted(self, entry: Entry, used: Iterable[tuple[Account, Amount]]) -> None:
        """An instance was acknowledged; `used` was reserved for it."""
        with self._lock:
            for account, amount in used:
                self._unreserve(account, amount)
            self._unconfirmed[entry.name] = entry
            self._entries.append(entry)
            first, full = len(self._entries) == 1, len(self._entries) >= MAXIMUM_ENTRIES
        if first:
            self._has_entries.set()
        if full:
            self.flush()

    def flush(self) -> None:
        """Tell the keeper now what was accepted."""
        with self._lock:
            entries, self._entries = self._entries, []
            if entries:
                self._send_locked({"entries": entries})

    def _take(self, account: Account, amount: Amount) -> None:
        lease = self._leases[account]
        lease.instances -= amount.instances
        lease.bytes -= amount.bytes
        lease.used_at = time.monotonic()
        before = self._reserved.get(account)
        self._reserved[account] = (
            amount if before is None else Amount(before.instances + amount.instances, before.bytes + amount.bytes)
        )
        if not lease.is_asked and (2 * lease.instances < lease.last.instances or 2 * lease.bytes < lease.last.bytes):
            self._ask_ahead(account, lease)

    def _missing(self, account: Account, amount: Amount) -> Amount:
        lease = self._leases.get(account) or _Lease()
        return Amount(max(0, amount.instances - lease.instances), max(0, amount.bytes - lease.bytes))

    def _ask_ahead(self, account: Account, lease: _Lease) -> None:
        """More, before it is needed; if there is no more, that is found out when it is."""
        lease.is_asked = True
        number = next(self._numbers)
        self._asked[number] = account
        wanted = Amount(min(1, lease.last.instances), min(1, lease.last.bytes))
        self._send_locked({"want": [*account, *wanted], "number": number, "soon": True})

    def _add(self, account: Account, amount: Amount) -> None:
        lease = self._leases.setdefault(account, _Lease())
        lease.instances += amount.instances
        lease.bytes += amount.bytes

    def _unreserve(self, account: Account, amount: Amount) -> None:
        before = self._reserved.pop(account)
        left = Amount(before.instances - amount.instances, before.bytes - amount.bytes)
        if any(left):
            self._reserved[account] = left

    def _ask(self, message: dict[str, Any], account: Account | None = None) -> dict[str, Any]:
        """Ask the keeper and wait. A lease of `account` is taken whenever it comes, in time or not."""
        number = next(self._numbers)
        replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._is_connected.wait(CONNECT_TIMEOUT_S)
        with self._lock:
            self._replies[number] = replies
            if account is not None:
                self._asked[number] = account
            sent = self._send_locked(message | {"number": number})
        try:
            if not sent:
                raise Unavailable("quota: the keeper does not answer")
            reply = replies.get(timeout=REPLY_TIMEOUT_S)
        except queue.Empty:
            raise Unavailable("quota: the keeper does not answer") from None
        finally:
            with self._lock:
                del self._replies[number]
        if reply.get("error"):
            raise Unavailable("quota: the database does not answer")
        return reply

    def _send(self, message: dict[str, Any]) -> bool:
        with self._lock:
            return self._send_locked(message)

    def _send_locked(self, message: dict[str, Any]) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self._log.warning("the quotas' keeper does not listen", reason=str(error))
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)  # wakes who listens, and hangs up
            self._connection = None
            return False
        return True

    def _tell(self) -> None:
        """Tell what was accepted, a moment after the first of many; give back what nobody uses."""
        while True:
            with self._lock:
                wait = IDLE_S if any(lease.instances or lease.bytes for lease in self._leases.values()) else None
            if self._has_entries.wait(wait):
                time.sleep(LINGER_S)
                self._has_entries.clear()
                self.flush()
            else:
                now = time.monotonic()
                with self._lock:
                    idle = [account for account, lease in self._leases.items() if now - lease.used_at >= IDLE_S]
                    self._give_back(idle)
                    self._recalled = {account: until for account, until in self._recalled.items() if now < until}

    def _give_back(self, accounts: Sequence[Account]) -> None:
        amounts = []
        for account in accounts:
            lease = self._leases.pop(account, None)
            if lease is not None and (lease.instances or lease.bytes):
                amounts.append([*account, lease.instances, lease.bytes])
        if amounts:
            self._send_locked({"back": amounts})

    def _run(self) -> None:
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(self._address)
                self._greet(connection)
                try:
                    with connection.makefile("rb") as lines:
                        for line in lines:
                            self._on_message(json.loads(line))
                finally:
                    self._hang_up()
            except OSError:
                pass  # it is being started
            finally:
                connection.close()
                time.sleep(RECONNECT_DELAY_S)

    def _greet(self, connection: socket.socket) -> None:
        """Say who we are, what we accepted that no keeper has confirmed, and what we have."""
        with self._lock:
            connection.settimeout(SEND_TIMEOUT_S)
            leases = [[*account, lease.instances, lease.bytes] for account, lease in self._leases.items()] + [
                [*account, *amount] for account, amount in self._reserved.items()
            ]
            for message in (
                {"hello": self._holder},
                {"entries": list(self._unconfirmed.values())},
                {"leases": leases},
            ):
                connection.sendall(json.dumps(message).encode() + b"\n")
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_TIMEOUT_S))
            self._entries.clear()
            self._connection = connection
            self._is_connected.set()

    def _hang_up(self) -> None:
        """Whoever waits for an answer gets none. Leases that were on their way end with the next greeting."""
        with self._lock:
            self._connection = None
            self._is_connected.clear()
            self._asked.clear()
            for lease in self._leases.values():
                lease.is_asked = False
            for replies in self._replies.values():
                replies.put({"error": "the keeper ended"})

    def _on_message(self, message: dict[str, Any]) -> None:
        if "settled" in message:
            with self._lock:
                for name in message["settled"]:
                    self._unconfirmed.pop(name, None)
        elif "recall" in message:
            self.flush()
            account = Account(*message["recall"])
            with self._lock:
                self._give_back([account])
                if account in self._reserved:
                    self._recalled[account] = time.monotonic() + RECALL_S
        else:
            self._on_reply(message)

    def _on_reply(self, message: dict[str, Any]) -> None:
        number = message["reply"]
        with self._lock:
            account = self._asked.pop(number, None)
            replies = self._replies.get(number)
            if account is not None:
                lease = self._leases.setdefault(account, _Lease())
                lease.last = Amount(*message["amount"]) if message.get("amount") else _NOTHING
                lease.is_asked = False
                self._add(account, lease.last)
            if replies is not None:
                replies.put(message)


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
