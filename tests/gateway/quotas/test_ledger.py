"""The books: what is leased and used never exceeds a limit, and comes back when it must."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.quotas.accounts import Account, Amount, Holder
from gateway.quotas.ledger import MAXIMUM_LEASE_INSTANCES
from gateway.quotas.overview import overview, reset
from tests.gateway.quotas.conftest import CT, MR, Books, Clock, MakeBooks, entry

ONE = Holder("ours", "1-a")
TWO = Holder("ours", "2-b")
TOTAL = Account("CT", "")
CT_3 = {"CallingAet": "CT", "MaximumInstances": 3}


def used(books: Books, rule: str = "CT") -> Amount:
    lines = overview(books.database, list(books.ledger.rules.values()), books.clock())
    return next(line.used for line in lines if line.rule.key == rule and line.source is None and not line.study)


def test_limit_is_reached_exactly(make_books: MakeBooks) -> None:
    books = make_books(CT_3)
    assert [books.accept(ONE, str(n)) for n in range(5)] == [True, True, True, False, False]
    assert used(books) == (3, 300)


def test_lease_of_one_is_not_to_be_had_by_another(make_books: MakeBooks) -> None:
    books = make_books(CT_3)
    for _ in range(3):
        assert books.ledger.grant(ONE, TOTAL, Amount(1)).amount == (1, 0)
    refused = books.ledger.grant(TWO, TOTAL, Amount(1))
    assert (refused.amount, refused.lacks_instances, refused.leased) == (None, True, (3, 0))
    books.ledger.give_back(ONE, [(TOTAL, Amount(1))])
    assert books.ledger.grant(TWO, TOTAL, Amount(1)).amount == (1, 0)


def test_blocks_shrink_to_single_instances_near_the_limit(make_books: MakeBooks) -> None:
    books = make_books({"CallingAet": "CT", "MaximumInstances": 100_000})
    assert books.ledger.grant(ONE, TOTAL, Amount(1)).amount == (MAXIMUM_LEASE_INSTANCES, 0)
    books = make_books({"CallingAet": "CT", "MaximumInstances": 300})
    grants = []
    while (grant := books.ledger.grant(ONE, TOTAL, Amount(1))).amount is not None:
        grants.append(grant.amount.instances)
    assert grants == sorted(grants, reverse=True)
    assert (grants[-1], sum(grants) + MAXIMUM_LEASE_INSTANCES) == (1, 300)


def test_bytes_are_limited_exactly(make_books: MakeBooks) -> None:
    books = make_books({"CallingAet": "CT", "MaximumBytes": 250})
    assert [books.accept(ONE, str(n)) for n in range(3)] == [True, True, False]
    assert books.accept(ONE, "small", bytes=50)
    assert used(books) == (3, 250)


def test_identical_instance_that_is_sent_again_counts_once(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3)
    same = {"sop_instance_uid": "1.2.9", "digest": "ab"}
    assert books.accept(ONE, "first", **same)
    assert books.accept(ONE, "again", **same)
    assert used(books).instances == 1
    assert books.accept(ONE, "other bytes", sop_instance_uid="1.2.9", digest="cd")
    assert used(books).instances == 2


def test_identical_instance_needs_no_lease_to_be_claimed(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books({"CallingAet": "CT", "MaximumInstances": 1})
    assert books.accept(ONE, "first", sop_instance_uid="1.2.9", digest="ab")
    assert books.ledger.is_held("1.2.9")
    assert not books.ledger.is_held("1.2.10")
    assert not books.ledger.claim(entry("changed", clock, sop_instance_uid="1.2.9", digest="cd"))
    assert books.ledger.claim(entry("again", clock, sop_instance_uid="1.2.9", digest="ab"))
    assert used(books).instances == 1
    assert not books.accept(ONE, "new")


def test_first_of_two_identical_ones_is_deleted_and_the_other_counts_in_its_place(make_books: MakeBooks) -> None:
    books = make_books({"CallingAet": "CT", "MaximumInstances": 1})
    same = {"sop_instance_uid": "1.2.9", "digest": "ab"}
    assert books.accept(ONE, "first", **same)
    assert books.ledger.claim(entry("again", books.clock, **same))
    books.holdings.release(["first"])
    assert used(books).instances == 1
    assert not books.accept(ONE, "new")
    books.holdings.release(["again"])
    assert used(books).instances == 0
    assert books.accept(ONE, "new")


def test_what_is_deleted_is_given_back_once(make_books: MakeBooks) -> None:
    books = make_books(CT_3)
    for name in "abc":
        assert books.accept(ONE, name)
    assert books.holdings.release(["a"]) == 1
    assert books.holdings.release(["a"]) == 0
    assert [books.accept(ONE, name) for name in "de"] == [True, False]


def test_what_is_written_down_twice_counts_once(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3)
    for _ in range(3):
        books.ledger.settle(ONE, [entry("a", clock), entry("a", clock)])
    assert used(books).instances == 1


def test_rules_count_only_their_sources(make_books: MakeBooks) -> None:
    books = make_books(CT_3, {"CallingAet": "*", "Host": "192.0.2.*", "MaximumInstances": 4, "Name": "all"})
    assert books.accept(ONE, "a", source=CT)
    assert books.accept(ONE, "b", rule="all", source=MR)
    assert (used(books).instances, used(books, "all").instances) == (1, 2)


def test_study_has_its_own_limit(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books({"CallingAet": "CT", "MaximumInstancesPerStudy": 2})
    for study in ("1.2.3", "1.2.4"):
        account = Account("CT", study)
        for number in range(2):
            assert books.ledger.grant(ONE, account, Amount(1)).amount is not None
            books.ledger.settle(ONE, [entry(f"{study}-{number}", clock, study=study)])
        assert books.ledger.grant(ONE, account, Amount(1)).amount is None
    books.holdings.release(["1.2.3-0"])
    assert books.ledger.grant(ONE, Account("CT", "1.2.3"), Amount(1)).amount is not None


def test_window_rolls(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3 | {"Window": "1h"})
    for name in "abc":
        assert books.accept(ONE, name)
        clock.forward(20 * 60)
    # An hour after the first, to the nanosecond.
    assert books.accept(ONE, "d")
    assert not books.accept(ONE, "e")
    clock.forward(20 * 60 - 1e-9)
    assert not books.accept(ONE, "e")
    clock.forward(1e-9)
    assert books.accept(ONE, "e")
    clock.forward(3600)
    assert used(books).instances == 0
    assert [books.accept(ONE, name) for name in "fghi"] == [True, True, True, False]


def test_window_counts_what_was_accepted_whatever_became_of_it(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3 | {"Window": "1h"})
    for name in "abc":
        assert books.accept(ONE, name)
    books.holdings.release("abc")
    assert not books.accept(ONE, "d")


def test_clock_that_is_set_back_opens_no_limit(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3 | {"Window": "1h"})
    for name in "abc":
        assert books.accept(ONE, name)
    clock.forward(3601)
    assert books.accept(ONE, "d")
    clock.forward(-3601)
    assert [books.accept(ONE, name) for name in "efg"] == [True, True, False]
    clock.forward(3601)
    assert not books.accept(ONE, "g")
    clock.forward(3601)
    assert [books.accept(ONE, name) for name in "ghij"] == [True, True, True, False]


def test_reset_begins_anew_and_deletions_of_before_give_nothing_back(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3)
    for name in "abc":
        assert books.accept(ONE, name)
    reset(books.database, books.ledger.rules["CT"], clock())
    clock.forward(1)
    books.holdings.release("ab")
    assert [books.accept(ONE, name) for name in "defg"] == [True, True, True, False]


def test_rule_that_is_new_or_changed_counts_what_is_held(make_books: MakeBooks) -> None:
    books = make_books({"CallingAet": "*", "MaximumInstances": 100, "Name": "all"})
    for number in range(3):
        assert books.accept(ONE, str(number), rule="all")
    assert books.accept(ONE, "mr", rule="all", source=MR)
    books = make_books(CT_3)
    assert not books.accept(ONE, "more")
    books = make_books({"CallingAet": "?T", "MaximumInstances": 4, "Name": "CT"})
    assert [books.accept(ONE, name) for name in "xy"] == [True, False]


def test_state_survives(make_books: MakeBooks) -> None:
    assert make_books(CT_3).accept(ONE, "a")
    assert used(make_books(CT_3)).instances == 1


def test_leases_of_the_dead_end_and_those_of_the_living_are_what_they_say(make_books: MakeBooks) -> None:
    books = make_books(CT_3)
    books.ledger.grant(ONE, TOTAL, Amount(2))
    books.ledger.grant(TWO, TOTAL, Amount(1))
    assert books.ledger.holders() == {"1-a", "2-b"}
    books.ledger.end_leases(ONE)
    assert books.ledger.grant(TWO, TOTAL, Amount(2)).amount is not None
    books.ledger.set_leases(TWO, [(TOTAL, Amount(1))])
    assert books.ledger.grant(ONE, TOTAL, Amount(2)).amount is not None
    assert books.ledger.grant(ONE, TOTAL, Amount(1)).amount is None


def test_measured_use_keeps_what_came_in_while_it_was_measured(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(MaximumQueueLength=10)
    (rule,) = books.ledger.rules.values()
    books.ledger.settle(ONE, [entry("a", clock)])
    before = books.ledger.measured(rule)
    books.ledger.settle(ONE, [entry("b", clock)])
    books.ledger.set_measured(rule, Amount(7), before)
    assert books.ledger.measured(rule).instances == 8


def test_replaced_instance_is_released(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3)
    for name in ("old", "new", "failed"):
        assert books.accept(ONE, name, orthanc_id="same", sop_instance_uid="1.2", digest=name.encode().hex())
        clock.forward(1)
    assert books.holdings.release_overwritten("same", lambda name: name == "failed") == 1
    assert {held.name for held in books.holdings.known(["same"])} == {"new", "failed"}


def test_the_same_in_two_archives_counts_twice(make_books: MakeBooks) -> None:
    books = make_books(CT_3)
    same = {"sop_instance_uid": "1.2.9", "digest": "ab"}
    for name, place in (("a", "id"), ("b", "@CLOUD"), ("c", "@CLOUD"), ("d", "@OTHER")):
        assert books.accept(ONE, name, orthanc_id=place, **same)
    assert used(books) == (3, 300)
    # The copy that was sent again counts in the place of the first, and not a moment longer.
    assert books.holdings.release(["b"]) == 1
    assert used(books) == (3, 300)
    assert books.holdings.release(["c"]) == 1
    assert used(books) == (2, 200)
    assert [held.name for held in books.holdings.for_servers(10)] == ["d"]
    assert [held.name for held in books.holdings.unseen(2**62, 10)] == ["a"]


def test_rows_that_nothing_counts_are_pruned(make_books: MakeBooks, clock: Clock) -> None:
    books = make_books(CT_3, {"CallingAet": "MR", "MaximumInstances": 5, "Window": "1h"})
    assert books.accept(ONE, "held")
    assert books.accept(ONE, "gone")
    assert books.accept(ONE, "passing", rule="MR", source=MR)
    books.holdings.release(["gone"])
    clock.forward(3601)
    assert books.holdings.prune(clock()) == 2
    assert set(books.ledger.states(["held", "gone", "passing"])) == {"held"}


@pytest.mark.parametrize("gateways", [["ours"], ["ours", "theirs"]], ids=["one gateway", "two gateways"])
def test_many_at_once_get_exactly_the_limit(make_books: MakeBooks, gateways: list[str]) -> None:
    limit = 40
    shared = [make_books({"CallingAet": "CT", "MaximumInstances": limit}, gateway=name) for name in gateways]

    def send(number: int) -> int:
        books = shared[number % len(shared)]
        holder = Holder(books.ledger.gateway, f"{number}-x")
        return sum(books.accept(holder, f"{number}-{n}") for n in range(12))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(8))) == limit
