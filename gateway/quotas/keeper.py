"""The keeper of the quotas: leases parts of them to those who receive, and writes down what they accepted.

One thread, one selector, one process for each gateway; it alone among the gateway's processes writes into the books
while instances arrive. Messages are lines of JSON on a Unix socket in the state directory (gateway.quotas.client).
A request that cannot be met at once waits a moment: leases of others that are not in use are called back first.
"""

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.database import DatabaseError
from gateway.log import get_logger
from gateway.quotas.accounts import Account, Amount, Holder
from gateway.quotas.audit import Auditor
from gateway.quotas.elsewhere import Elsewhere
from gateway.quotas.entries import Entry, decode
from gateway.quotas.ledger import Ledger
from gateway.spool import Spool

MAXIMUM_LINE_BYTES: Final = 8 * 1024 * 1024
SEND_TIMEOUT_S: Final = 2.0
READ_BYTES: Final = 256 * 1024

# How long a request waits for leases that others have: nobody is refused while a free place is on its way.
RECALL_TIMEOUT_S: Final = 1.0
LOOK_DELAY_S: Final = 0.1
# A holder whose connection ended is looked at again and again until it is dead or has come back.
LOOK_AGAIN_S: Final = 0.2
DATABASE_RETRY_S: Final = 1.0
COMPLAIN_INTERVAL_S: Final = 60.0


@dataclass
class Peer:
    """A connection: a process that receives (then it has a holder), the forwarder, or a command."""

    connection: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    holder: Holder | None = None
    is_open: bool = True

    def send(self, message: dict[str, Any]) -> None:
        """Send; a peer that does not listen is given up."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.is_open = False


@dataclass
class Request:
    """A lease that somebody waits for."""

    peer: Peer
    number: int
    account: Account
    wanted: Amount
    deadline: float
    # When those who were asked have told what they accepted: only then a measurement counts nothing twice.
    look_at: float
    recalled: bool = False

    def due(self, now: float) -> float:
        """When to try it again."""
        return self.look_at if now < self.look_at else self.deadline


@dataclass(frozen=True, slots=True)
class _Leases:
    """What a holder says it has."""

    amounts: list[tuple[Account, Amount]]


class Keeper:
    """The loop."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        auditor: Auditor,
        address: Path,
        listen_elsewhere: Callable[[], Elsewhere] | None = None,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._auditor = auditor
        self._listen_elsewhere = listen_elsewhere
        self._elsewhere: Elsewhere | None = None
        self._listen_at = None if listen_elsewhere is None else time.monotonic()
        self._was_asked = False
        self._selector = selectors.DefaultSelector()
        self._peers: list[Peer] = []
        self._waiting: list[Request] = []
        # Accounts whose last request waited in vain; whatever comes back to them takes them out of here.
        self._exhausted: set[Account] = set()
        # In the order in which it was said: leases are what is left when the entries before them are written down.
        self._unsettled: list[tuple[Peer, list[Entry] | _Leases]] = []
        self._settle_at: float | None = None
        self._lost: set[Holder] = set()
        self._complain_at = 0.0
        self._log = get_logger()
        self._poke, self._poked = socket.socketpair()
        for end in (self._poke, self._poked):
            end.setblocking(False)
        self._selector.register(self._poked, selectors.EVENT_READ, self._on_poke)
        address.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(address))
        address.chmod(0o600)
        self._listener.listen(128)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)

    def watch(self, file: Any, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever `file` can be read."""
        self._selector.register(file, selectors.EVENT_READ, on_readable)

    def poke(self) -> None:
        """Something was given back: look at those who wait. May be called from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._poke.send(b"\0")

    def lose(self, folders: set[str]) -> None:
        """Holders of an earlier keeper: dead, or about to say hello."""
        self._lost |= {Holder(self._ledger.gateway, folder) for folder in folders}

    def run(self) -> None:
        """For ever."""
        while True:
            self.step()

    def step(self) -> None:
        """Wait for the next event, and deal with it."""
        before = time.monotonic()
        for key, _events in self._selector.select(self._wait_time(before)):
            key.data()
        now = time.monotonic()
        if self._settle_at is not None and now >= self._settle_at:
            self._settle()
        if self._listen_at is not None and now >= self._listen_at:
            self._connect_elsewhere()
        if self._lost:
            self._look_for_the_lost()
        for request in [request for request in self._waiting if request.due(before) <= now]:
            self._try(request)
        for peer in [peer for peer in self._peers if not peer.is_open]:
            self._drop(peer)

    def _wait_time(self, now: float) -> float | None:
        dues = [request.due(now) for request in self._waiting]
        dues += [due for due in (self._settle_at, self._listen_at) if due is not None]
        if self._lost:
            dues.append(now + LOOK_AGAIN_S)
        return max(0.0, min(dues) - now) if dues else None

    def _on_connection(self) -> None:
        connection, _address = self._listener.accept()
        connection.settimeout(SEND_TIMEOUT_S)
        peer = Peer(connection)
        self._peers.append(peer)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._on_readable(peer))

    def _on_readable(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data or len(peer.buffer) > MAXIMUM_LINE_BYTES:
            peer.is_open = False
            return
        peer.buffer += data
        *lines, rest = peer.buffer.split(b"\n")
        peer.buffer = rest
        for line in lines:
            self._on_message(peer, json.loads(line))

    def _drop(self, peer: Peer) -> None:
        self._selector.unregister(peer.connection)
        peer.connection.close()
        self._peers.remove(peer)
        self._waiting = [request for request in self._waiting if request.peer is not peer]
        if peer.holder is not None:
            self._lost.add(peer.holder)

    def _on_poke(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._poked.recv(4096)
        self._free()

    def _on_message(self, peer: Peer, message: dict[str, Any]) -> None:
        if "entries" in message:
            self._unsettled.append((peer, [decode(fields) for fields in message["entries"]]))
            self._settle()
        elif "want" in message:
            self._on_want(peer, message)
        elif "back" in message:
            self._on_back(peer, message["back"])
        elif "held" in message:
            self._answer(peer, message, lambda: self._ledger.is_held(message["held"]))
        elif "claim" in message:
            self._answer(peer, message, lambda: self._claim(decode(message["claim"])))
        elif "kept" in message:
            self._auditor.claimed.discard(message["kept"])
        elif "leaving" in message:
            self._answer(peer, message, lambda: self._auditor.may_leave([Path(name) for name in message["leaving"]]))
        elif "gone" in message:
            self._answer(peer, message, lambda: self._auditor.release(message["gone"]))
            self._free()
        elif "hello" in message:
            peer.holder = Holder(self._ledger.gateway, message["hello"])
            self._lost.discard(peer.holder)
        elif "leases" in message:
            self._unsettled.append((peer, _Leases(_decode_amounts(message["leases"]))))
            self._settle()
        elif "changed" in message:
            self._free()
            peer.send({"reply": message["number"], "ok": True})

    def _answer(self, peer: Peer, message: dict[str, Any], question: Callable[[], object]) -> None:
        try:
            peer.send({"reply": message["number"], "ok": bool(question())})
        except DatabaseError as error:
            self._complain(error)
            peer.send({"reply": message["number"], "ok": False, "error": str(error)})

    def _claim(self, entry: Entry) -> bool:
        self._auditor.claimed.add(entry.name)
        if self._ledger.claim(entry):
            return True
        self._auditor.claimed.discard(entry.name)
        return False

    def _settle(self) -> None:
        """Write down what was accepted. What cannot be written now is kept; its leases cover it all the while."""
        try:
            self._settle_at = None
            while self._unsettled:
                self._write_down(*self._unsettled[0])
                del self._unsettled[0]
        except DatabaseError as error:
            self._complain(error)
            self._settle_at = time.monotonic() + DATABASE_RETRY_S
        for request in list(self._waiting):
            self._try(request)

    def _write_down(self, peer: Peer, said: list[Entry] | _Leases) -> None:
        if not isinstance(said, _Leases):
            self._ledger.settle(peer.holder, said)
            peer.send({"settled": [entry.name for entry in said]})
        elif peer.holder is not None:
            self._ledger.set_leases(peer.holder, said.amounts)
            self._exhausted.clear()

    def _on_want(self, peer: Peer, message: dict[str, Any]) -> None:
        rule, study, instances, size = message["want"]
        now = time.monotonic()
        account, wanted = Account(rule, study), Amount(instances, size)
        request = Request(peer, message["number"], account, wanted, now + RECALL_TIMEOUT_S, now + LOOK_DELAY_S)
        self._waiting.append(request)
        self._try(request, or_ask_others=not message.get("soon", False))

    def _try(self, request: Request, *, or_ask_others: bool = True) -> None:
        """Meet the request, or let it wait for what others give back, or refuse it."""
        peer, account = request.peer, request.account
        reply: dict[str, Any] = {"reply": request.number, "amount": None}
        if peer.holder is None or account.rule not in self._ledger.rules:
            reply["error"] = "no such rule"
        else:
            try:
                grant = self._ledger.grant(peer.holder, account, request.wanted)
            except DatabaseError as error:
                self._complain(error)
                reply["error"] = str(error)
            else:
                if grant.amount is not None:
                    reply["amount"] = grant.amount
                else:
                    reply["instances"] = grant.lacks_instances
                    if or_ask_others and self._may_come_back(request, grant.leased):
                        return
        self._waiting.remove(request)
        peer.send(reply)

    def _may_come_back(self, request: Request, leased: Amount) -> bool:
        """Whether to wait; asks the holders of leases for what they do not use, and for a measurement."""
        account, now = request.account, time.monotonic()
        may_look = not any(leased) or account in self._exhausted or now >= request.look_at
        looks = may_look and self._auditor.look_soon(self._ledger.rules[account.rule])
        if now >= request.deadline or (account in self._exhausted and not looks):
            self._exhausted.add(account)
            return False
        if not request.recalled:
            request.recalled = True
            self._recall(account)
            if self._elsewhere is not None:
                self._elsewhere.recall(account)
        if not any(leased) and not looks:
            self._exhausted.add(account)
            return False
        return True

    def _recall(self, account: Account) -> None:
        for peer in self._peers:
            if peer.holder is not None:
                peer.send({"recall": account})

    def _connect_elsewhere(self) -> None:
        self._listen_at = None
        if self._listen_elsewhere is None:
            return
        try:
            self._elsewhere = self._listen_elsewhere()
        except DatabaseError:
            self._listen_at = time.monotonic() + DATABASE_RETRY_S  # whoever wants a lease meets the same
        else:
            self._selector.register(self._elsewhere, selectors.EVENT_READ, self._on_others)

    def _on_others(self) -> None:
        """Another gateway wants something back, or gave something back."""
        if self._elsewhere is None:
            return
        try:
            heard = self._elsewhere.heard()
        except DatabaseError as error:
            self._complain(error)
            self._selector.unregister(self._elsewhere)
            self._elsewhere.close()
            self._elsewhere, self._listen_at = None, time.monotonic()
            return
        for account in heard:
            if account is None:
                self._free()
            elif account.rule in self._ledger.rules:
                self._was_asked = True
                self._recall(account)

    def _on_back(self, peer: Peer, amounts: list[list[Any]]) -> None:
        if peer.holder is None or not amounts:
            return
        with self._database_trouble():
            self._ledger.give_back(peer.holder, _decode_amounts(amounts))
        if self._elsewhere is not None and self._was_asked:
            self._was_asked = False
            self._elsewhere.recall(None)
        self._free()

    def _free(self) -> None:
        """Something may have come back."""
        self._exhausted.clear()
        for request in list(self._waiting):
            self._try(request)

    def _look_for_the_lost(self) -> None:
        """A holder that is dead keeps nothing: what it accepted is in the spool and is written down first."""
        connected = {peer.holder for peer in self._peers}
        for holder in list(self._lost):
            if holder in connected:
                self._lost.discard(holder)
            elif not self._spool.is_alive(holder.folder) and not any(
                peer.holder == holder for peer, _ in self._unsettled
            ):
                self._lost.discard(holder)
                self._auditor.bury(holder)

    def _complain(self, error: DatabaseError) -> None:
        """One line for an outage, not one for each instance."""
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_INTERVAL_S
            self._log.error("the quotas' database fails", reason=str(error))

    @contextlib.contextmanager
    def _database_trouble(self) -> Any:
        try:
            yield
        except DatabaseError as error:
            self._complain(error)


def _decode_amounts(amounts: list[list[Any]]) -> list[tuple[Account, Amount]]:
    return [(Account(rule, study), Amount(instances, size)) for rule, study, instances, size in amounts]
