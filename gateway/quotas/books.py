"""What all that write into the books have in common: accounts, amounts, and the statements that change them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, case, delete, func, insert, select, update

from gateway.quotas.accounts import TOTAL, Account, Amount, Holder, counted_accounts
from gateway.quotas.entries import Entry
from gateway.quotas.rules import Rule, Source
from gateway.quotas.tables import GONE, INSTANCES, LEASES, SOURCES, USE

# PostgreSQL's advisory lock of all who write here.
LOCK: Final = 0x44_47_00_02


class Copy(NamedTuple):
    """What is the same again: SOP Instance UID and digest, held in the same place (gateway.quotas.entries.place)."""

    sop_instance_uid: str
    digest: bytes
    place: str


def copy_of(entry: Entry) -> Copy:
    """What `entry` is a copy of."""
    return Copy(entry.sop_instance_uid, bytes.fromhex(entry.digest), entry.orthanc_id)


class Counts:
    """Amounts by account, summed up."""

    def __init__(self) -> None:
        self.amounts: dict[Account, Amount] = {}

    def add(self, account: Account, size: int, sign: int = 1) -> None:
        """One instance more, or with `sign` -1 one less."""
        before = self.amounts.get(account, Amount())
        self.amounts[account] = Amount(before.instances + sign, before.bytes + sign * size)


def by_account(rule: Rule, studies: Mapping[str, Amount]) -> dict[Account, Amount]:
    """What studies have, as what the accounts of `rule` have."""
    amounts: dict[Account, Amount] = {}
    for study, amount in studies.items():
        for account in counted_accounts(rule, study):
            before = amounts.get(account, Amount())
            amounts[account] = Amount(before.instances + amount.instances, before.bytes + amount.bytes)
    return amounts


def amount_of(sql: Connection, table: Table, account: Account) -> Amount:
    """What stands in USE or LEASES for `account`, over all holders."""
    row = sql.execute(
        select(func.sum(table.c.instances), func.sum(table.c.bytes)).where(
            table.c.rule == account.rule, table.c.study == account.study
        )
    ).one()
    return Amount(int(row[0] or 0), int(row[1] or 0))


def add_use(sql: Connection, amounts: Mapping[Account, Amount]) -> None:
    """Add to what is used; negative amounts take away."""
    for account, amount in amounts.items():
        changed = sql.execute(
            update(USE)
            .where(USE.c.rule == account.rule, USE.c.study == account.study)
            .values(instances=USE.c.instances + amount.instances, bytes=USE.c.bytes + amount.bytes)
        )
        if not changed.rowcount:
            sql.execute(insert(USE).values(**account._asdict(), **amount._asdict()))
    if any(account.study != TOTAL and amount.instances < 0 for account, amount in amounts.items()):
        sql.execute(delete(USE).where(USE.c.study != TOTAL, USE.c.instances <= 0))


def change_lease(sql: Connection, holder: Holder, account: Account, amount: Amount, sign: int) -> None:
    """Add to a lease, or take away from it; it never has less than nothing."""
    where = and_(LEASES.c.rule == account.rule, LEASES.c.study == account.study, is_of(holder))
    instances, size = LEASES.c.instances + sign * amount.instances, LEASES.c.bytes + sign * amount.bytes
    changed = sql.execute(update(LEASES).where(where).values(instances=_positive(instances), bytes=_positive(size)))
    if not changed.rowcount and sign > 0:
        values = {**account._asdict(), **amount._asdict(), "gateway": holder.gateway, "holder": holder.folder}
        sql.execute(insert(LEASES).values(**values))
    if sign < 0:
        sql.execute(delete(LEASES).where(where, LEASES.c.instances == 0, LEASES.c.bytes == 0))


def _positive(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((value < 0, 0), else_=value)


def is_of(holder: Holder) -> ColumnElement[bool]:
    """The leases of `holder`."""
    return and_(LEASES.c.gateway == holder.gateway, LEASES.c.holder == holder.folder)


def held_copies(sql: Connection, uids: Iterable[str]) -> set[Copy]:
    """All that is held of these SOP Instance UIDs."""
    query = select(INSTANCES.c.sop_instance_uid, INSTANCES.c.digest, INSTANCES.c.orthanc_id).where(
        INSTANCES.c.sop_instance_uid.in_(list(uids)), INSTANCES.c.held != GONE
    )
    return {Copy(uid, bytes(digest), place) for uid, digest, place in sql.execute(query)}


def source_number(sql: Connection, source: Source) -> int:
    """The number of `source` in its table, where it is entered if it is new."""
    where = and_(
        SOURCES.c.calling_ae_title == source.calling_ae_title,
        SOURCES.c.called_ae_title == source.called_ae_title,
        SOURCES.c.host == source.host,
    )
    number = sql.scalars(select(SOURCES.c.source).where(where)).first()
    if number is None:
        sql.execute(insert(SOURCES).values(**source._asdict()))
        number = sql.scalars(select(SOURCES.c.source).where(where)).one()
    return int(number)
