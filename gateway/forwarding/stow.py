"""Delivering to a DICOMweb server by STOW-RS (PS3.18 10.5): batches of one study, streamed; the answer says what became
of each instance."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gateway.archive.dicomweb_holdings import Holdings
from gateway.dicom.part10 import Part10Error
from gateway.dicomweb.client import DicomWebClient, Request, retry_after_s
from gateway.dicomweb.errors import DicomWebError
from gateway.forwarding.destination import DIFFERS, Destination, OnOutcome
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.queue import Batching
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.stow_answer import StowAnswer, parse_answer
from gateway.forwarding.stow_body import SpoolFileChanged, StowBody
from gateway.forwarding.stow_comparison import compare
from gateway.forwarding.stow_verdicts import STATUSES, SUCCESSES, judge_failure
from gateway.forwarding.transports import Unreachable
from gateway.forwarding.verdicts import Judgement, Verdict
from gateway.options.gateway import ForwardingSection
from gateway.spool import Delivery, Spool

# What is larger goes alone. A request is answered as a whole: the larger it is, the more is sent again when it breaks.
SHARED_BYTES: Final = 8 * 1024 * 1024
BATCH_BYTES: Final = 32 * 1024 * 1024
# When a server takes no bodies of a size (413), batches get smaller, but not that small.
SMALLEST_BATCH_BYTES: Final = 512 * 1024
MAXIMUM_ANSWER_BYTES: Final = 16 * 1024 * 1024

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
_NOT_ACCEPTABLE: Final = 406
_CONFLICT: Final = 409
_TOO_LARGE: Final = 413


class StowForwarder(Destination):
    """A DICOMweb server as a destination."""

    def __init__(
        self,
        client: DicomWebClient,
        spool: Spool,
        section: ForwardingSection,
        on_outcome: OnOutcome,
        kept: KeptDeliveries,
        received: ReceivedInstances,
    ) -> None:
        batching = Batching(SHARED_BYTES, BATCH_BYTES, by_study=True)
        super().__init__(client.title, spool, section, on_outcome, kept, received, batching)
        self._client = client
        self._holdings = Holdings(client)
        self._accept = JSON

    def run(self) -> None:
        """One sender thread's loop; returns after `stop`."""
        self.drain(self._deliver)

    def check_delivered(self, names: list[str]) -> None:
        """See Destination.check. A server that does not say what it has is believed."""
        self.check(names, lambda delivery: self._has(delivery) is not False)

    def _deliver(self, batch: deque[Delivery]) -> None:
        reply = self._post_together([self.sent(delivery) for delivery in batch]) if len(batch) > 1 else None
        while batch:
            delivery = batch[0]
            uid = self.sent(delivery).sop_instance_uid
            if reply is not None and uid in reply.judgements:
                self._conclude(delivery, reply.judgements[uid], reply.status)
            else:
                self._deliver_alone(delivery)
            batch.popleft()

    def _post_together(self, batch: Sequence[Delivery]) -> "_Reply | None":
        """Of instances that are not named in the answer nothing is known: they are to be sent alone."""
        if len({delivery.study_instance_uid for delivery in batch}) > 1:
            return None  # a script has made several studies of one
        try:
            reply = self._post(batch)
        except (FileNotFoundError, Part10Error):
            return None
        if reply.status == _TOO_LARGE:
            self._make_batches_smaller(sum(delivery.size for delivery in batch))
        return reply

    def _deliver_alone(self, delivery: Delivery) -> None:
        try:
            sent = self.sent(delivery)
            reply = self._post([sent])
        except FileNotFoundError:
            self.is_gone(delivery)
            return
        except Part10Error as error:
            self.conclude(delivery, Judgement(Verdict.REFUSED, f"no instance that can be delivered: {error}"))
            return
        judgement = reply.judgements.get(sent.sop_instance_uid)
        self._conclude(delivery, judgement or self._judge_unnamed(sent, reply.status), reply.status)

    def _judge_unnamed(self, delivery: Delivery, status: int) -> Judgement:
        """An answer that does not name the instance. A success counts, unless the server says that it has it not."""
        if status not in SUCCESSES:
            return Judgement(STATUSES[status], f"the server answers HTTP {status}")
        text = f"the server answers HTTP {status}, without a word about the instance"
        if self._has(delivery) is False:
            return Judgement(Verdict.RETRY, f"{text}, and does not have it")
        return Judgement(Verdict.DELIVERED, text)

    def _conclude(self, delivery: Delivery, judgement: Judgement, status: int) -> None:
        self.way_is_free()
        if judgement.verdict is not Verdict.DELIVERED:
            judgement = self._compared(self.sent(delivery), judgement, status)
        self.conclude(delivery, judgement)

    def _compared(self, delivery: Delivery, judgement: Judgement, status: int) -> Judgement:
        """Servers have many ways to say that they have it already; what is the same is safe, whatever they call it."""
        try:
            with _reaching():
                is_same = compare(self._client, delivery)
        except FileNotFoundError:
            return judgement  # it is noticed with the next attempt
        if is_same:
            return Judgement(Verdict.DELIVERED, f"already stored ({judgement.reason})")
        is_taken = judgement.verdict is Verdict.ALREADY_STORED
        if is_same is False and (is_taken or status == _CONFLICT):
            return Judgement(Verdict.REFUSED, f"{DIFFERS} ({judgement.reason})")
        if is_taken:  # that is what it says, and more cannot be known
            return Judgement(Verdict.DELIVERED, judgement.reason)
        return judgement

    def _has(self, delivery: Delivery) -> bool | None:
        """Raises Unreachable."""
        with _reaching():
            return self._holdings.has(delivery.study_instance_uid, delivery.sop_instance_uid)

    def _make_batches_smaller(self, size_bytes: int) -> None:
        smaller = max(SMALLEST_BATCH_BYTES, size_bytes // 2)
        if smaller < self.queue.batching.batch_bytes:
            self.queue.batching.batch_bytes = smaller
            self._log.warning(f"{self.name} takes no bodies of this size", size=size_bytes, batches=smaller)

    def _post(self, deliveries: Sequence[Delivery]) -> "_Reply":
        """Raises Unreachable for an answer that says nothing of instances; Part10Error, OSError."""
        with StowBody([delivery.path for delivery in deliveries]) as body, _reaching():
            try:
                reply = self._post_body(body)
                if reply is None and self._accept == JSON:
                    self._accept = XML  # PS3.18 10.5.3.2 has both; there are servers that have one
                    reply = self._post_body(body)
            except SpoolFileChanged as error:
                raise OSError(str(error)) from error
        if reply is None:
            raise Unreachable(f"the server answers HTTP {_NOT_ACCEPTABLE}")
        return reply

    def _post_body(self, body: StowBody) -> "_Reply | None":
        """None: the server has no answers of the kind that was asked for."""
        request = Request(
            "POST",
            self._client.stow("/studies"),
            headers={"Content-Type": body.content_type, "Accept": self._accept},
            body=body.pieces,
            size_bytes=body.size_bytes,
            is_repeatable=False,
        )
        with self._client.open(request, attempts=1) as answer:
            if answer.status == _NOT_ACCEPTABLE:
                return None
            if answer.status not in SUCCESSES and answer.status not in STATUSES:
                wait_s = retry_after_s(answer.headers.get("Retry-After"), 0.0)
                raise Unreachable(str(answer.error()), wait_s)
            return _Reply.of(answer.status, parse_answer(answer.read(MAXIMUM_ANSWER_BYTES)))


@dataclass(frozen=True, slots=True)
class _Reply:
    """`judgements`: by SOP Instance UID, of the instances that the answer names."""

    status: int
    judgements: Mapping[str, Judgement]

    @classmethod
    def of(cls, status: int, answer: StowAnswer) -> "_Reply":
        stored = dict.fromkeys(answer.stored, Judgement(Verdict.DELIVERED, f"stored, HTTP {status}"))
        return cls(status, stored | {uid: judge_failure(reason) for uid, reason in answer.failed.items()})


@contextmanager
def _reaching() -> Iterator[None]:
    """What a server does not answer means that the way is not free."""
    try:
        yield
    except DicomWebError as error:
        raise Unreachable(str(error)) from error
