"""Clients that ask one query after the other, in processes of their own: a thread would share its lock with others."""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.client import Association, AssociationFailed, association_request
from bench.figures import Figures, percentiles
from bench.peers import Peer
from bench.processes import GATEWAY_OTHER, SERVER, Meter

HEAD_START_S = 0.3  # until every client is connected


@dataclass(frozen=True)
class Question:
    """An identifier, and how many matches it must have."""

    identifier: bytes
    matches: int


@dataclass
class Times:
    """What clients saw: for each query the time to the first and to the last answer, and how long all took."""

    first_ms: list[float] = field(default_factory=list)
    last_ms: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Asking:
    """What a client does: ask these in turn, on one association, at most so often and so long."""

    port: int
    sop_class: str
    questions: Sequence[Question]
    samples: int
    samples_s: float
    nagle: bool = False

    def __call__(self, begin: float) -> Times:
        """Ask from `begin` (time.monotonic) on. Raises AssociationFailed, also for a wrong number of matches."""
        times = Times()
        request = association_request([self.sop_class])
        with Association(self.port, request, nagle=self.nagle) as association:
            association.find(self.sop_class, self.questions[-1].identifier)  # the first on an association is slower
            time.sleep(max(0.0, begin - time.monotonic()))
            for question in itertools.islice(itertools.cycle(self.questions), self.samples):
                answered = association.find(self.sop_class, question.identifier)
                if answered.pending != question.matches:
                    raise AssociationFailed(f"{answered.pending} matches instead of {question.matches}")
                times.first_ms.append(answered.first_s * 1000)
                times.last_ms.append(answered.last_s * 1000)
                if time.monotonic() > begin + self.samples_s:
                    break
            times.elapsed_s = time.monotonic() - begin
            association.release()
        return times


def ask(clients: Sequence[Asking]) -> Times:
    """Run all clients at once, each in its own process. Raises AssociationFailed."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(clients), mp_context=context) as executor:
        begin = time.monotonic() + HEAD_START_S
        results = list(executor.map(_run, clients, itertools.repeat(begin)))
    return Times(
        [ms for times in results for ms in times.first_ms],
        [ms for times in results for ms in times.last_ms],
        max(times.elapsed_s for times in results),
    )


def ask_and_measure(peer: Peer, clients: Sequence[Asking]) -> Figures:
    """What the cases report of `ask`, with the server's CPU time. Raises AssociationFailed."""
    with Meter(peer.pid) as meter:
        times = ask(clients)
        cpu_s = meter.cpu_s()
    asked = len(times.last_ms)
    figures = {
        "samples": asked,
        "matches": clients[0].questions[0].matches,
        **percentiles(times.last_ms),
        "first_p50_ms": percentiles(times.first_ms)["p50_ms"],
        "queries_per_s": asked / times.elapsed_s,
        "server_cpu_ms": cpu_s[SERVER] / asked * 1000,
    }
    if GATEWAY_OTHER in cpu_s:
        figures["gateway_cpu_ms"] = cpu_s[GATEWAY_OTHER] / asked * 1000
    return figures


def _run(client: Callable[[float], Times], begin: float) -> Times:
    return client(begin)
