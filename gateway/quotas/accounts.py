"""What is counted: accounts, and amounts of instances and bytes."""

from typing import Final, NamedTuple

from gateway.quotas.rules import Rule

TOTAL: Final = ""
"""In place of a Study Instance UID: all studies of a rule together."""


class Account(NamedTuple):
    """What has a limit: a rule (`study` is TOTAL), or one study under it."""

    rule: str
    study: str


class Amount(NamedTuple):
    """Instances and bytes of data sets."""

    instances: int = 0
    bytes: int = 0


class Holder(NamedTuple):
    """Who has a lease: a process that receives, by the folder in `incoming` that it writes to."""

    gateway: str
    folder: str


def counted_accounts(rule: Rule, study: str) -> list[Account]:
    """The accounts of `rule` that an instance of `study` counts in."""
    accounts = [Account(rule.key, TOTAL)] if rule.has_total else []
    if rule.maximum_instances_per_study is not None:
        accounts.append(Account(rule.key, study))
    return accounts
