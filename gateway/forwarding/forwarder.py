"""Delivering to Orthanc: post a batch, read the answer, conclude. See docs/architecture.md."""

import io
import zipfile
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.forwarding.comparison import CopyError, is_same_instance
from gateway.forwarding.destination import DIFFERS, Destination, OnOutcome
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.queue import SMALL_BYTES
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.transports import HttpTransport, Transport
from gateway.forwarding.verdicts import Judgement, Verdict, judge, judge_batch
from gateway.options.gateway import ForwardingSection
from gateway.spool import Delivery, Spool

INSTANCES: Final = "/instances"


@dataclass
class Sender:
    """What one sender thread posts with: `small` may be the plugin, `http` streams and reads."""

    small: Transport
    http: HttpTransport


class Forwarder(Destination):
    """Orthanc as a destination."""

    def __init__(
        self,
        spool: Spool,
        section: ForwardingSection,
        on_outcome: OnOutcome,
        kept: KeptDeliveries,
        received: ReceivedInstances,
        *,
        is_changed: bool = False,
    ) -> None:
        """`is_changed`: what Orthanc stores may differ from what it gets, identifiers included.

        So there are no batches, whose answers are told apart by identifiers, and nothing is compared.
        """
        if is_changed:
            section = section.model_copy(update={"batch_size": 1})
        super().__init__("Orthanc", spool, section, on_outcome, kept, received)
        self._is_changed = is_changed

    def run(self, sender: Sender) -> None:
        """One sender thread's loop; returns after `stop`."""
        self.drain(lambda batch: self._deliver(sender, batch))

    def check_delivered(self, transport: HttpTransport, names: list[str]) -> None:
        """See Destination.check."""

        def is_there(delivery: Delivery) -> bool | None:
            status = transport.get(f"{INSTANCES}/{delivery.orthanc_id}").http_status
            return {200: True, 404: False}.get(status or 0)

        self.check(names, is_there)

    def _deliver(self, sender: Sender, batch: deque[Delivery]) -> None:
        judgements: dict[str, Judgement] = {}
        if len(batch) > 1:
            body = _zip(map(self.sent, batch))
            reply = sender.small.post(INSTANCES, body, len(body))
            judgements = judge_batch(reply)
            if judgements:
                self.way_is_free()
        while batch:
            delivery = batch[0]
            sent = self.sent(delivery)
            judgement = judgements.get(sent.orthanc_id)
            if judgement is None:
                judgement = self._post_alone(sender, sent)
                if judgement is None:
                    self.is_gone(delivery)
            if judgement is not None and judgement.verdict is Verdict.ALREADY_STORED:
                self.way_is_free()
                judgement = (
                    replace(judgement, verdict=Verdict.DELIVERED)
                    if self._is_changed
                    else _compared(sender, sent, judgement)
                )
            if judgement is not None:
                self.conclude(delivery, judgement)
            batch.popleft()

    def _post_alone(self, sender: Sender, delivery: Delivery) -> Judgement | None:
        """None: its file is gone."""
        try:
            with delivery.path.open("rb") as file:
                if delivery.size <= SMALL_BYTES:
                    reply = sender.small.post(INSTANCES, file.read(), delivery.size)
                elif delivery.size <= self._section.plugin_maximum_bytes:
                    reply = sender.small.post(INSTANCES, file, delivery.size)
                else:
                    reply = sender.http.post(INSTANCES, file, delivery.size)
        except FileNotFoundError:
            return None
        return judge(reply)


def _compared(sender: Sender, delivery: Delivery, judgement: Judgement) -> Judgement:
    """Whether Orthanc has this instance, or another one under its name."""
    try:
        is_same = is_same_instance(sender.http, judgement.orthanc_id or delivery.orthanc_id, delivery.path)
    except CopyError as error:
        return Judgement(Verdict.RETRY, str(error))
    return Judgement(Verdict.DELIVERED, judgement.reason) if is_same else Judgement(Verdict.REFUSED, DIFFERS)


def _zip(batch: Iterable[Delivery]) -> bytes:
    """The files of a batch in one stored ZIP. A file that is gone is left out: alone, it will be noticed."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_STORED) as archive:
        for number, delivery in enumerate(batch):
            try:
                content = delivery.path.read_bytes()
            except FileNotFoundError:
                continue
            archive.writestr(f"{number}.dcm", content)
    return body.getvalue()
