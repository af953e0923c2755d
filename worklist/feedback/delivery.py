"""What is done for one receiver: take what is due, send it, write down what came of it.

Trouble with the connection, and a missing acknowledgement, are tried again for ever: nothing is lost by a RIS that is
down. What a RIS refuses is kept for a person to look at, and does not hold up what comes behind it.
"""

import time
from collections.abc import Callable
from datetime import tzinfo
from typing import Any, Final

from gateway.database import Database, DatabaseError
from gateway.options.hl7_receivers import ReceiverSection
from gateway.receiver_connection import ConnectError
from worklist.feedback import outbox, receivers
from worklist.feedback.answers import ACCEPTED, REJECTIONS, Answer
from worklist.feedback.line import Line, NoAnswer
from worklist.feedback.message import Happened, write
from worklist.feedback.outbox import Due, State
from worklist.feedback.ownership import Ownership

# How soon what was put in is seen. Those who put it in are many processes, of several gateways; to ask costs 0.2 ms.
LOOK_INTERVAL_S: Final = 1.0
DATABASE_RETRY_S: Final = 5.0
# The exponent of the delay: 2 ** 20 is more than any MaximumRetryDelay.
_MAXIMUM_DOUBLINGS: Final = 20


class Delivery:
    """Sends to one receiver. `clock` says nanoseconds since 1970; `zone` is that of times in messages."""

    def __init__(
        self,
        database: Database,
        gateway: str,
        receiver: ReceiverSection,
        line: Line,
        ownership: Ownership,
        log: Any,
        *,
        zone: tzinfo | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._receiver = receiver
        self._line = line
        self._ownership = ownership
        self._log = log
        self._zone = zone
        self._clock = clock
        # Attempts in succession that failed with the connection, or each with another message.
        self._failures = 0
        self._failed_last: int | None = None
        self._wait_until = 0
        self._trouble = ""
        self._database_fails = False

    def step(self) -> float:
        """Send what is due, one message at most; return after how many seconds to look again."""
        now = self._clock()
        if now < self._wait_until <= now + self._longest_delay_ns:
            return min(LOOK_INTERVAL_S, (self._wait_until - now) / 10**9)
        try:
            is_sent = self._send_next(now)
            self._database_fails = False
        except DatabaseError as error:
            if not self._database_fails:
                self._log.error("the database of messages fails; it is tried again", reason=str(error))
            self._database_fails = True
            return DATABASE_RETRY_S
        return 0.0 if is_sent else LOOK_INTERVAL_S

    def close(self) -> None:
        """End: hang up, and let another gateway send."""
        self._line.close()
        try:
            self._ownership.release()
        except DatabaseError as error:
            self._log.error("the database of messages fails", reason=str(error))

    @property
    def _longest_delay_ns(self) -> int:
        return int(self._receiver.maximum_retry_delay * 10**9)

    def _send_next(self, now: int) -> bool:
        """Whether there was anything to send."""
        if not self._ownership.holds():
            self._line.close()
            return False
        with self._database.read() as connection:
            due = outbox.next_due(connection, self._receiver.name, now, now + self._longest_delay_ns)
        if due is None:
            return False
        try:
            self._line.open()
        except ConnectError as error:
            self._failed(str(error), None)
            return False
        body = due.body if due.body is not None else self._write(due, now)
        with self._database.write() as connection:
            if not self._ownership.still_holds(connection) or not outbox.begin(connection, due, body, now):
                return False
        began = time.monotonic()
        try:
            answer = self._line.exchange(body, due.control_id)
        except NoAnswer as error:
            self._not_acknowledged(due, str(error), time.monotonic() - began)
        else:
            self._acknowledged(due, answer, time.monotonic() - began)
        return True

    def _write(self, due: Due, now: int) -> bytes:
        happened = Happened(due.item, due.at, due.started_at, due.control_id)
        return write(happened, self._receiver, now, self._zone)

    def _not_acknowledged(self, due: Due, reason: str, seconds: float) -> None:
        due_at = self._clock() + self._delay_ns(due.attempts + 1)
        with self._database.write() as connection:
            outbox.postpone(connection, due, due_at, reason)
        self._tell("message not acknowledged, it will be sent again", due, seconds, outcome="none", reason=reason)
        self._failed(reason, due)

    def _acknowledged(self, due: Due, answer: Answer, seconds: float) -> None:
        now, said = self._clock(), {"outcome": answer.code, **({"text": answer.text} if answer.text else {})}
        is_tried_again = answer.code in REJECTIONS and due.attempts < self._receiver.rejected_retries
        with self._database.write() as connection:
            if is_tried_again:
                due_at = now + self._delay_ns(due.attempts + 1)
                outbox.postpone(connection, due, due_at, answer.text, answer.code, answer.body)
            else:
                state = State.ACCEPTED if answer.code in ACCEPTED else State.REFUSED
                outbox.settle(connection, due, state, now, answer.code, answer.text, answer.body)
        if is_tried_again:
            self._tell("message rejected, it will be sent again", due, seconds, **said)
        elif answer.code in ACCEPTED:
            self._tell("message accepted", due, seconds, **said)
        else:
            self._tell("message refused, it is kept", due, seconds, **said)
        self._reached()

    def _failed(self, reason: str, due: Due | None) -> None:
        """Wait with everything: longer each time, but not because of one message that gets no answer."""
        if due is None or due.id != self._failed_last:
            self._failures += 1
        self._failed_last = due.id if due is not None else None
        now = self._clock()
        self._wait_until = now + self._delay_ns(self._failures)
        if reason != self._trouble:
            if due is None:
                self._log.warning("a receiver is not reached", receiver=self._receiver.name, reason=reason)
            self._set_trouble(reason, now)

    def _reached(self) -> None:
        self._failures, self._failed_last, self._wait_until = 0, None, 0
        if self._trouble:
            self._log.info("a receiver answers again", receiver=self._receiver.name)
            self._set_trouble("", 0)

    def _set_trouble(self, reason: str, since: int) -> None:
        self._trouble = reason
        with self._database.write() as connection:
            receivers.set_trouble(connection, self._gateway, self._receiver.name, reason, since)

    def _delay_ns(self, failures: int) -> int:
        delay_s = self._receiver.minimum_retry_delay * 2 ** min(failures - 1, _MAXIMUM_DOUBLINGS)
        return int(min(delay_s, self._receiver.maximum_retry_delay) * 10**9)

    def _tell(self, event: str, due: Due, seconds: float, **said: str) -> None:
        level = self._log.info if said["outcome"] in ACCEPTED else self._log.warning
        level(
            event,
            receiver=self._receiver.name,
            item=due.item.id,
            status=due.item.status.value,
            message=due.id,
            control_id=due.control_id,
            attempt=due.attempts + 1,
            **said,
            seconds=round(seconds, 4),
        )
