"""Store and association set-up. Each measurement has a server of its own that starts empty."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case, Material, Run, Sizes
from bench.client import (
    MAX_CONTEXTS,
    VERIFICATION,
    Association,
    AssociationFailed,
    Instance,
    association_request,
    many_contexts,
)
from bench.figures import Figures, percentiles
from bench.peers import PEERS, VARIANTS, Setting
from bench.processes import GATEWAY_OTHER, SERVER, Meter
from bench.senders import Sending

WARM_UP_INSTANCES = 1
DELIVERY_TIMEOUT_S = 300.0
SEND_TIMEOUT_S = 600.0
QUIET_S = 3.0  # for the CPU time of open associations on which nothing happens


class FreshServer:
    """What the cases of this module have in common."""

    group = "store"

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def stage(self) -> str:
        return self.name

    def setting(self, folder: Path, material: Material) -> Setting:
        return Setting()

    def warm_up(self, run: Run) -> None:
        """One C-STORE that is not measured: servers load code and open their database on the first."""
        instance = Instance(run.material.warm_up)
        with Association(run.peer.dicom_port, association_request([instance.sop_class])) as association:
            association.store(instance)
            association.release()
        run.peer.wait_for_count(WARM_UP_INSTANCES, DELIVERY_TIMEOUT_S)


@dataclass(frozen=True)
class StoreCase(FreshServer):
    """storescu sends instances of one shape on some associations; all of them must arrive."""

    shape: str
    associations: int
    nodelay: bool
    optional: bool = False
    title: str = field(default="Store", init=False)

    @property
    def name(self) -> str:
        return f"store-{self.shape}-{self.associations}-{'nodelay' if self.nodelay else 'default'}"

    @property
    def peers(self) -> tuple[str, ...]:
        if self.nodelay:
            return ("orthanc-nd", "gateway", *VARIANTS, "gateway-plugin", "orthanc", "storescp-nd", "orthanc-nd-again")
        return ("orthanc", "gateway", *VARIANTS, "orthanc-nd", "storescp")

    @property
    def reference(self) -> str:
        return self.peers[0]

    def instances(self, peer_name: str, sizes: Sizes) -> int:
        if self.nodelay and not PEERS[peer_name].nagle:
            return sizes.instances
        return min(sizes.instances, sizes.slow_instances * self.associations)

    def run(self, run: Run) -> Figures:
        files = run.material.data[self.shape][: self.instances(run.peer_name, run.material.sizes)]
        count = len(files)
        sending = Sending(run.folder, run.peer.dicom_port, files, self.associations, nodelay=self.nodelay)
        with Meter(run.peer.pid) as meter, sending:
            sent = sending.wait_until_acknowledged(SEND_TIMEOUT_S)
            stored = run.peer.wait_for_count(WARM_UP_INSTANCES + count, DELIVERY_TIMEOUT_S)
            cpu_s, peak_mb = meter.cpu_s(), meter.peak_mb()
            sending.wait_until_ended()
        acknowledged_s, stored_s = sent.acknowledged - sent.started, stored - sent.started
        figures = {
            "instances": count,
            "acknowledged_s": acknowledged_s,
            "acknowledged_ms_per_instance": acknowledged_s / count * 1000,
            "acknowledged_per_s": count / acknowledged_s,
            "stored_s": stored_s,
            "stored_ms_per_instance": stored_s / count * 1000,
            "server_cpu_s_per_1000": cpu_s[SERVER] / count * 1000,
        }
        if GATEWAY_OTHER in cpu_s:
            figures["gateway_cpu_s_per_1000"] = cpu_s[GATEWAY_OTHER] / count * 1000
        return figures | {f"{name}_peak_mb": peak for name, peak in peak_mb.items()}


@contextmanager
def _open_associations(port: int, count: int) -> Iterator[list[Association]]:
    request = association_request([VERIFICATION])
    associations: list[Association] = []
    try:
        for _ in range(count):
            associations.append(Association(port, request))
        yield associations
    finally:
        for association in associations:
            association.close()


@dataclass(frozen=True)
class IdleCase(FreshServer):
    """Single C-STOREs (33 KB) while other associations are open and say nothing."""

    idle: int
    peers: tuple[str, ...] = ("orthanc-nd", "gateway")
    reference: str = "orthanc-nd"
    optional: bool = False
    title: str = field(default="Store while other associations are idle", init=False)

    @property
    def name(self) -> str:
        return f"idle-{self.idle}"

    def run(self, run: Run) -> Figures:
        instances = [Instance(path) for path in run.material.data["mr128"][: run.material.sizes.samples]]
        with _open_associations(run.peer.dicom_port, self.idle) as idle:
            with Meter(run.peer.pid) as meter:
                time.sleep(QUIET_S)
                cpu_percent = sum(meter.cpu_s().values()) / QUIET_S * 100
            times_ms = _store_one_by_one(run, instances)
            open_at_end = sum(not association.closed_by_peer() for association in idle)
        run.peer.wait_for_count(WARM_UP_INSTANCES + len(times_ms), DELIVERY_TIMEOUT_S)
        return {
            "samples": len(times_ms),
            **percentiles(times_ms),
            "idle_cpu_percent": cpu_percent,
            "idle_open_at_end": open_at_end,
        }


def _store_one_by_one(run: Run, instances: list[Instance]) -> list[float]:
    times_ms: list[float] = []
    deadline = time.monotonic() + run.material.sizes.samples_s
    request = association_request([instances[0].sop_class])
    with Association(run.peer.dicom_port, request) as association:
        for instance in instances:
            started = time.perf_counter()
            association.store(instance)
            times_ms.append((time.perf_counter() - started) * 1000)
            if time.monotonic() > deadline:
                break
        association.release()
    return times_ms


def _cycle(port: int, request: bytes) -> float:
    """Connect, associate, C-ECHO, release; how long it took, in ms."""
    started = time.perf_counter()
    with Association(port, request) as association:
        association.echo()
        association.release()
    return (time.perf_counter() - started) * 1000


@dataclass(frozen=True)
class AssociationCase(FreshServer):
    """Associate, C-ECHO and release, over and over, by one client or by many at once."""

    contexts: int
    clients: int = 1
    peers: tuple[str, ...] = ("orthanc-nd", "gateway", "storescp-nd")
    reference: str = "orthanc-nd"
    optional: bool = False
    title: str = field(default="Association set-up: associate, C-ECHO, release", init=False)

    @property
    def name(self) -> str:
        return f"associate-{self.contexts}-{self.clients}"

    def run(self, run: Run) -> Figures:
        request = association_request(many_contexts(self.contexts))
        port = run.peer.dicom_port
        _cycle(port, request)  # the server may prepare something for its first association
        each = max(1, run.material.sizes.samples // self.clients)
        deadline = time.monotonic() + run.material.sizes.samples_s
        times_ms: list[float] = []
        errors: list[str] = []
        together = threading.Barrier(self.clients)

        def client() -> None:
            together.wait()
            for _ in range(each):
                try:
                    times_ms.append(_cycle(port, request))
                except OSError as error:
                    errors.append(str(error))
                if time.monotonic() > deadline:
                    return

        threads = [threading.Thread(target=client, daemon=True) for _ in range(self.clients)]
        with Meter(run.peer.pid) as meter:
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            elapsed_s = time.perf_counter() - started
            cpu_s = sum(meter.cpu_s().values())
        if not times_ms:
            raise AssociationFailed(f"no association worked: {errors[0]}")
        return {
            "samples": len(times_ms),
            **percentiles(times_ms),
            "associations_per_s": len(times_ms) / elapsed_s,
            "errors": len(errors),
            "cpu_s_per_1000": cpu_s / len(times_ms) * 1000,
        }


STORE_CASES: tuple[Case, ...] = (
    *(
        StoreCase(shape, associations, nodelay, optional=associations == 8)
        for nodelay in (False, True)
        for shape in ("mr128", "ct512")
        for associations in (1, 4, 8)
    ),
    StoreCase("sc1k", 1, nodelay=True),
    *(IdleCase(idle) for idle in (0, 20, 100)),
    AssociationCase(MAX_CONTEXTS),
    AssociationCase(MAX_CONTEXTS, clients=50),
)
