"""Policies that ask for room: on the disk, and in the quotas of the source (gateway.quotas)."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.config import Configuration
from gateway.part10 import orthanc_id
from gateway.quotas import entries
from gateway.quotas.accounts import TOTAL, Account, Amount
from gateway.quotas.client import Exhausted, QuotaClient, Unavailable
from gateway.quotas.entries import Entry
from gateway.quotas.identity import gateway_identity
from gateway.quotas.rules import Limit, Rule, Source, counting_rules, selects
from scp.policy import Policy
from scp.statuses import Answer, Status

if TYPE_CHECKING:
    from scp.storage import IncomingInstance

# Sources whose rules are remembered; who invents AE titles gets them looked up again.
MAXIMUM_SOURCES: Final = 10_000


class EnoughFreeSpace(Policy):
    """`MinimumFreeSpace`: before the data set is written, and again when it is."""

    def __init__(self, state_directory: Path, minimum_bytes: int) -> None:
        self._path = state_directory
        self._minimum_bytes = minimum_bytes

    def on_command(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy. Raises OSError."""
        status = os.statvfs(self._path)
        if status.f_bavail * status.f_frsize >= self._minimum_bytes:
            return None
        return _refusal(Limit("MinimumFreeSpace", "MinimumFreeSpace", self._minimum_bytes))

    on_data_set = on_command


@dataclass(frozen=True)
class Applicable:
    """The rules for one source: those that count, and the most bytes that one instance may have."""

    rules: tuple[Rule, ...]
    largest: Limit | None

    @property
    def needs_digest(self) -> bool:
        """Whether instances are told apart by their data sets."""
        return any(not rule.measured for rule in self.rules)


@dataclass
class Reservation:
    """What was taken for one instance. `exhausted`: there was no room, but it may be held already."""

    source: Source
    rules: tuple[Rule, ...]
    amounts: list[tuple[Account, Amount]] = field(default_factory=list)
    exhausted: Limit | None = None
    entry: Entry | None = None
    is_claimed: bool = False


class Quotas:
    """The rules of a worker, and its leases."""

    def __init__(self, configuration: Configuration, client: QuotaClient | None) -> None:
        """`client` is None if no rule counts."""
        self._per_instance = [
            rule for rule in configuration.gateway.quotas.rules if rule.maximum_bytes_per_instance is not None
        ]
        self._strict = configuration.orthanc.strict_aet_comparison
        self._client = client
        self._rules: list[Rule] = []
        if client is not None:
            self._rules = counting_rules(configuration, gateway_identity(configuration.state_directory))
        self._applicable: dict[Source, Applicable] = {}

    @property
    def client(self) -> QuotaClient:
        """The leases; there are some if any rule is applicable that counts."""
        if self._client is None:
            raise RuntimeError("no rule counts")
        return self._client

    def applicable(self, source: Source) -> Applicable:
        """The rules for `source`."""
        found = self._applicable.get(source)
        if found is None:
            if len(self._applicable) >= MAXIMUM_SOURCES:
                self._applicable.clear()
            rules = tuple(rule for rule in self._rules if rule.matches(source))
            found = self._applicable[source] = Applicable(rules, self._largest(source, rules))
        return found

    def _largest(self, source: Source, rules: tuple[Rule, ...]) -> Limit | None:
        limits = [
            Limit(rule.title, "MaximumBytesPerInstance", rule.maximum_bytes_per_instance or 0)
            for rule in self._per_instance
            if selects(rule, source, strict=self._strict)
        ]
        limits += [rule.limit(study=False, instances=False) for rule in rules if rule.maximum_bytes is not None]
        return min(limits, key=lambda limit: limit.value, default=None)


class QuotaOnCommand(Policy):
    """Whether there is room at all: a rule that is exhausted refuses before any data is read."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def on_command(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy."""
        peers = instance.peers
        source = entries.source(peers.calling_ae_title, peers.called_ae_title, peers.calling_address)
        applicable = self._quotas.applicable(source)
        instance.largest = applicable.largest
        if not applicable.rules:
            return None
        reservation = instance.reservation = Reservation(source, applicable.rules)
        if applicable.needs_digest:
            instance.digest = entries.new_digest()
        try:
            limit = _reserve(self._quotas.client, reservation, _first_amounts(applicable.rules))
            if limit is None:
                return None
            uid = entries.identifier(instance.command.affected_sop_instance_uid)
            if not instance.digest or not self._quotas.client.is_held(uid):
                return _refusal(limit)
        except Unavailable as error:
            return Answer(Status.OUT_OF_RESOURCES, str(error))
        reservation.exhausted = limit
        return None


class QuotaOfInstance(Policy):
    """Whether there is room for this instance; one that is held already, and is the same, needs none."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def on_data_set(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy."""
        reservation = instance.reservation
        if reservation is None:
            return None
        entry = reservation.entry = _entry(instance, reservation.source)
        try:
            limit = reservation.exhausted or _reserve(
                self._quotas.client, reservation, _other_amounts(reservation.rules, entry)
            )
            if limit is None:
                return None
            if entry.digest and self._quotas.client.claim(entry):
                reservation.is_claimed = True
                return None
        except Unavailable as error:
            return Answer(Status.OUT_OF_RESOURCES, str(error))
        return _refusal(limit)

    def on_end(self, instance: "IncomingInstance", *, stored: bool) -> None:
        """See Policy."""
        reservation = instance.reservation
        if reservation is None:
            return
        entry = reservation.entry
        if stored and entry is not None:
            if reservation.is_claimed:
                self._quotas.client.keep_claimed(entry.name)
            else:
                self._quotas.client.accepted(entry._replace(accepted_at=time.time_ns()), reservation.amounts)
            return
        _give_up(self._quotas.client, reservation)
        if reservation.is_claimed and entry is not None:
            self._quotas.client.drop_claimed(entry.name)


Wanted = tuple[Rule, Account, Amount]


def _first_amounts(rules: tuple[Rule, ...]) -> Iterator[Wanted]:
    """What any instance needs: a place, and a byte."""
    for rule in rules:
        if rule.has_total:
            amount = Amount(int(rule.maximum_instances is not None), int(rule.maximum_bytes is not None))
            yield rule, Account(rule.key, TOTAL), amount


def _other_amounts(rules: tuple[Rule, ...], entry: Entry) -> Iterator[Wanted]:
    """What this instance needs besides."""
    for rule in rules:
        if rule.maximum_bytes is not None:
            yield rule, Account(rule.key, TOTAL), Amount(bytes=entry.bytes - 1)
        if rule.maximum_instances_per_study is not None:
            yield rule, Account(rule.key, entry.study), Amount(instances=1)


def _reserve(client: QuotaClient, reservation: Reservation, wanted: Iterator[Wanted]) -> Limit | None:
    """Reserve all, or nothing and say which limit is reached. Raises Unavailable, and nothing is reserved."""
    try:
        for rule, account, amount in wanted:
            try:
                client.reserve(account, amount)
            except Exhausted as error:
                _give_up(client, reservation)
                return rule.limit(study=account.study != TOTAL, instances=error.instances)
            reservation.amounts.append((account, amount))
    except Unavailable:
        _give_up(client, reservation)
        raise
    return None


def _give_up(client: QuotaClient, reservation: Reservation) -> None:
    while reservation.amounts:
        client.give_up(*reservation.amounts.pop())


def _entry(instance: "IncomingInstance", source: Source) -> Entry:
    header, file = instance.header, instance.file
    return Entry(
        name=file.ready_path.name,
        source=source,
        sop_instance_uid=entries.identifier(header.sop_instance_uid),
        study=entries.identifier(header.study_instance_uid),
        digest=instance.digest.hexdigest() if instance.digest is not None else "",
        bytes=file.data_set_length,
        orthanc_id=orthanc_id(
            header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        ),
        accepted_at=time.time_ns(),
    )


def _refusal(limit: Limit) -> Answer:
    return Answer(Status.OUT_OF_RESOURCES, limit.comment)
