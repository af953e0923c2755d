"""The counts of open connections."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.supervisor.connection_limits import OpenConnections


def _open(connections: OpenConnections, host: str, worker: str = "w1", *, over_limit: bool = False) -> int:
    number = connections.number()
    connections.opened(number, worker, host, over_limit=over_limit)
    return number


def _exceeded(connections: OpenConnections, host: str) -> str | None:
    excess = connections.excess(host)
    return excess.option if excess else None


def test_limit_holds_for_all_together() -> None:
    connections = OpenConnections(2, 0)
    first = _open(connections, "a")
    assert _exceeded(connections, "a") is None
    _open(connections, "b")
    assert _exceeded(connections, "c") == "MaximumAssociations"
    connections.ended(first)
    assert _exceeded(connections, "c") is None


def test_limit_per_peer_holds_for_each_address() -> None:
    connections = OpenConnections(10, 2)
    first = _open(connections, "a")
    _open(connections, "a")
    assert _exceeded(connections, "a") == "MaximumAssociationsPerPeer"
    assert _exceeded(connections, "b") is None
    connections.ended(first)
    assert _exceeded(connections, "a") is None


def test_connection_that_is_rejected_counts_neither_in_all_nor_for_its_peer() -> None:
    connections = OpenConnections(2, 1)
    number = _open(connections, "a", over_limit=True)
    assert connections.rejected == 1
    assert _exceeded(connections, "a") is None
    connections.ended(number)
    assert connections.rejected == 0


def test_end_that_is_told_twice_gives_back_once() -> None:
    connections = OpenConnections(2, 0)
    first, _second = _open(connections, "a"), _open(connections, "a")
    connections.ended(first)
    connections.ended(first)
    _open(connections, "a")
    assert _exceeded(connections, "a") == "MaximumAssociations"


def test_worker_that_is_lost_gives_back_what_it_served_and_only_that() -> None:
    connections = OpenConnections(3, 2)
    lost = [
        _open(connections, "a", "w1"),
        _open(connections, "b", "w1"),
        _open(connections, "a", "w1", over_limit=True),
    ]
    _open(connections, "a", "w2")
    connections.lost("w1")
    assert (connections.load("w1"), connections.load("w2"), connections.rejected) == (0, 1, 0)
    for number in lost:  # what it had still said
        connections.ended(number)
    _open(connections, "a", "w2")
    assert _exceeded(connections, "a") == "MaximumAssociationsPerPeer"
    assert _exceeded(connections, "b") is None


@given(st.lists(st.tuples(st.sampled_from(["open", "end", "lose"]), st.integers(0, 5)), max_size=80))
def test_limits_are_never_exceeded_and_nothing_is_counted_that_is_not_open(steps: list[tuple[str, int]]) -> None:
    maximum, per_peer = 5, 3
    connections = OpenConnections(maximum, per_peer)
    model: dict[int, tuple[str, str]] = {}
    for step, choice in steps:
        host, worker = f"h{choice % 3}", f"w{choice % 2}"
        if step == "open":
            hosts = [h for h, _ in model.values()]
            full = len(hosts) >= maximum or hosts.count(host) >= per_peer
            assert (connections.excess(host) is not None) == full
            if not full:
                model[_open(connections, host, worker)] = (host, worker)
        elif step == "end" and model:
            number = sorted(model)[choice % len(model)]
            connections.ended(number)
            del model[number]
        elif step == "lose":
            connections.lost(worker)
            model = {number: each for number, each in model.items() if each[1] != worker}
    for worker in ("w0", "w1"):
        assert connections.load(worker) == sum(w == worker for _, w in model.values())
