"""Policies that ask for room: on the disk, and in the quotas of the source (gateway.quotas)."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.options.config import Configuration
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
    # What any instance needs: a place, and a byte.
    least: "tuple[Wanted, ...]"
    # Whether instances are told apart by their data sets.
    needs_digest: bool


@dataclass
class Reservation:
    """What was taken for one instance. `exhausted`: there was no room, but it may be held already."""

    source: Source
    rules: tuple[Rule, ...]
    name: str = ""
    place: str = ""
    bytes: int = 0
    amounts: list[tuple[Account, Amount]] = field(default_factory=list)
    exhausted: Limit | None = None
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
            found = self._applicable[source] = Applicable(
                rules=rules,
                largest=self._largest(source, rules),
                least=tuple(_least(rules)),
                needs_digest=any(not rule.measured for rule in rules),
            )
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
        client = self._quotas.client
        try:
            for rule, account, amount in applicable.least:
                if not client.has_some(account, amount):
                    try:
                        client.lease(account, amount)
                    except Exhausted as error:
                        limit = rule.limit(study=False, instances=error.instances)
                        uid = entries.identifier(instance.command.affected_sop_instance_uid)
                        if instance.digest is None or not client.is_held(uid):
                            return _refusal(limit)
                        reservation.exhausted = limit
                        return None
        except Unavailable as error:
            return Answer(Status.OUT_OF_RESOURCES, str(error))
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
        file, client = instance.file, self._quotas.client
        name = file.ready_path.name
        reservation.name, reservation.bytes = entries.identifier(name), file.data_set_length
        reservation.place = entries.place(name, instance.orthanc_id)
        try:
            limit = reservation.exhausted or _reserve(client, instance, reservation)
            if limit is None:
                return None
            if instance.digest is not None and client.claim(_entry(instance, reservation)):
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
        client = self._quotas.client
        if stored and reservation.is_claimed:
            client.keep_claimed(reservation.name)
        elif stored:
            client.accepted(_entry(instance, reservation), reservation.amounts)
        elif reservation.is_claimed:
            client.drop_claimed(reservation.name)
        else:
            client.give_up(reservation.amounts)


Wanted = tuple[Rule, Account, Amount]


def _least(rules: tuple[Rule, ...]) -> Iterator[Wanted]:
    for rule in rules:
        if rule.has_total:
            amount = Amount(int(rule.maximum_instances is not None), int(rule.maximum_bytes is not None))
            yield rule, Account(rule.key, TOTAL), amount


def _reserve(client: QuotaClient, instance: "IncomingInstance", reservation: Reservation) -> Limit | None:
    """Reserve what the instance needs, or nothing and say which limit is reached. Raises Unavailable."""
    wanted = []
    for rule in reservation.rules:
        if rule.has_total:
            count, size = rule.maximum_instances is not None, rule.maximum_bytes is not None
            amount = Amount(1 if count else 0, reservation.bytes if size else 0)
            wanted.append((rule, Account(rule.key, TOTAL), amount))
        if rule.maximum_instances_per_study is not None:
            study = entries.identifier(instance.header.study_instance_uid)
            wanted.append((rule, Account(rule.key, study), Amount(1)))
    amounts = [(account, amount) for _rule, account, amount in wanted]
    try:
        client.reserve(amounts)
    except Exhausted as error:
        rule = next(rule for rule, account, _amount in wanted if account == error.account)
        return rule.limit(study=error.account.study != TOTAL, instances=error.instances)
    reservation.amounts = amounts
    return None


def _entry(instance: "IncomingInstance", reservation: Reservation) -> Entry:
    return Entry(
        name=reservation.name,
        source=reservation.source,
        sop_instance_uid=entries.identifier(instance.header.sop_instance_uid),
        study=entries.identifier(instance.header.study_instance_uid),
        digest=instance.digest.hexdigest() if instance.digest is not None else "",
        bytes=reservation.bytes,
        orthanc_id=reservation.place,
        accepted_at=time.time_ns(),
    )


def _refusal(limit: Limit) -> Answer:
    return Answer(Status.OUT_OF_RESOURCES, limit.comment)
