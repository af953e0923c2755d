"""What comes of each message: it is handed on, kept and acknowledged, in one transaction.

One thread does it for all connections: messages that arrive while it commits share the next transaction, each within a
savepoint of its own, so that many senders cost few flushes and none waits for the others' locks.
"""

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from gateway.database import Database, DatabaseError, translated
from gateway.options.hl7 import Hl7Section
from worklist import store
from worklist.hl7 import decoding, message_log
from worklist.hl7.acknowledgement import ACCEPTED, Outcome, acknowledge
from worklist.hl7.errors import ErrorCode, NotSupported, Refusal
from worklist.hl7.handling import Handler, Received, Result
from worklist.hl7.header import Header
from worklist.hl7.message_log import Delivery
from worklist.hl7.traces import trace

# Messages of one transaction: what the last of them waits for the first.
MAXIMUM_BATCH: Final = 64

DAY_NS: Final = 24 * 3600 * 10**9
PRUNE_INTERVAL_S: Final = 3600.0
# After a step of pruning that left something, and after one that failed.
PRUNE_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender gets, and what the log says."""

    # To be sent as they are, maybe none. None: trouble of ours, the connection must be closed unanswered.
    frames: bytes | None
    header: Header | None
    outcome: Outcome | None = None
    result: Result = field(default_factory=Result)
    is_replay: bool = False


class Inbox:
    """Takes messages of all connections; thread-safe."""

    def __init__(self, database: Database, handler: Handler, section: Hl7Section, log: Any) -> None:
        self._database = database
        self._handler = handler
        self._section = section
        self._log = log
        # None wakes the thread up to end. Each connection has one message here at most.
        self._waiting: queue.SimpleQueue[tuple[Delivery, Future[Answer]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._prune_at = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def deliver(self, delivery: Delivery) -> Future[Answer]:
        """Take a message. The result is there once what came of it is on disk."""
        future: Future[Answer] = Future()
        self._waiting.put((delivery, future))
        return future

    def stop(self, timeout_s: float) -> None:
        """Finish what was taken, and end."""
        self._waiting.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                first = self._waiting.get(timeout=max(0.0, self._prune_at - time.monotonic()))
            except queue.Empty:
                self._prune()
                continue
            batch = [] if first is None else [first]
            is_last = first is None
            while not is_last and len(batch) < MAXIMUM_BATCH:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                else:
                    batch.append(following)
            if batch:
                self._take(batch)
            if is_last:
                return

    def _take(self, batch: list[tuple[Delivery, Future[Answer]]]) -> None:
        answers: list[Answer]
        try:
            with self._database.write(lock=store.LOCK) as connection:
                answers = [self._process(connection, delivery) for delivery, _future in batch]
        except DatabaseError as error:
            self._log.error("the database fails: messages are not acknowledged", reason=str(error), messages=len(batch))
            answers = [Answer(None, self._header(delivery)) for delivery, _future in batch]
        except Exception as error:  # noqa: BLE001  the listener's outermost boundary: whatever it was, the next may be well
            self._log.error("messages are not acknowledged by an error of our own", **trace(error))
            answers = [Answer(None, None) for _ in batch]
        for (_delivery, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)

    def _process(self, connection: Connection, delivery: Delivery) -> Answer:
        header = self._header(delivery)
        key = message_log.replay_key(header, delivery)
        earlier = message_log.find_earlier(connection, key) if key is not None else None
        # What was refused is tried again: somebody may have mended what was wrong here.
        if earlier is not None and earlier.outcome == ACCEPTED:
            message_log.came_again(connection, earlier, delivery)
            return Answer(earlier.acknowledgement, header, Outcome(ACCEPTED, earlier.text), is_replay=True)
        result = Result()
        try:
            with translated(), connection.begin_nested():
                result = self._handle(connection, delivery)
            outcome = Outcome(ACCEPTED, result.text)
        except Refusal as refusal:
            outcome = Outcome.refused(refusal)
        except Exception as error:  # noqa: BLE001  the boundary of one message: others share the transaction
            self._log.error("a message is not acknowledged by an error of our own", peer=delivery.peer, **trace(error))
            message_log.write(connection, delivery, header, None, b"", earlier)
            return Answer(None, header)
        codec = decoding.codec_of(header or Header(), self._section.default_character_set) or "ascii"
        frames = acknowledge(header, outcome, datetime.now().astimezone(), codec)
        message_log.write(connection, delivery, header, outcome, frames, earlier)
        return Answer(frames, header, outcome, result)

    def _header(self, delivery: Delivery) -> Header | None:
        return decoding.look_at_header(delivery.body, self._section.default_character_set)

    def _handle(self, connection: Connection, delivery: Delivery) -> Result:
        """Raises Refusal, and whatever the handler does."""
        frame = delivery.frame
        if frame.is_too_large:
            maximum = self._section.maximum_message_size
            text = f"{frame.size} bytes are more than MaximumMessageSize ({maximum})"
            raise NotSupported(ErrorCode.APPLICATION_INTERNAL_ERROR, text, location="")
        decoded = decoding.decode(frame.body, self._section.default_character_set)
        received_at = datetime.fromtimestamp(delivery.received_at / 10**9, UTC)
        message = decoding.parse(decoded)
        received = Received(decoded.header, message, decoded.text, delivery.peer, received_at)
        return self._handler.handle(received, connection)

    def _prune(self) -> None:
        try:
            with self._database.write() as connection:
                has_more = message_log.prune(connection, time.time_ns() - self._section.retention * DAY_NS)
        except DatabaseError as error:
            self._log.error("cannot delete old messages from the log", reason=str(error))
            has_more = False
        self._prune_at = time.monotonic() + (PRUNE_AGAIN_S if has_more else PRUNE_INTERVAL_S)
