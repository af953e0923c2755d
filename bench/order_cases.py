"""HL7 orders, each durable before it is acknowledged."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case, Material, Run
from bench.client import WORKLIST_FIND, Association, association_request
from bench.figures import Figures, percentiles
from bench.machine import appends_per_s, free_port
from bench.orders import OrderFailed, send
from bench.peers import VARIANTS, PeerFailed, Setting
from bench.processes import GATEWAY_OTHER, Meter
from bench.worklists import STATIONS, day, question, station

WARM_UP_ORDERS = 20
LISTENING_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class OrderCase:
    """A RIS sends new orders on some connections; all of them must be in the worklist afterwards."""

    connections: int
    optional: bool = False
    group: str = field(default="orders", init=False)
    title: str = field(default="HL7 orders", init=False)
    reference: str = field(default="gateway", init=False)

    @property
    def peers(self) -> tuple[str, ...]:
        return ("gateway", *VARIANTS)

    @property
    def name(self) -> str:
        return f"orders-{self.connections}"

    @property
    def stage(self) -> str:
        return self.name

    def setting(self, folder: Path, material: Material) -> Setting:
        port = free_port()
        rules = [{"If": {"OBR-21": name}, "AETitle": name} for name in map(station, range(STATIONS))]
        hl7 = {"Port": port, "StationRules": rules}
        return Setting(gateway={"Worklist": {}, "Hl7": hl7}, hl7_port=port)

    def warm_up(self, run: Run) -> None:
        """A few orders, as soon as the listener is there."""
        deadline = time.monotonic() + LISTENING_TIMEOUT_S
        while True:
            try:
                send(run.peer.setting.hl7_port, 0, WARM_UP_ORDERS, 1)
                return
            except OrderFailed:
                raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def run(self, run: Run) -> Figures:
        orders = run.material.sizes.orders
        flushes = [appends_per_s(run.folder)]
        with Meter(run.peer.pid) as meter:
            acknowledged = send(run.peer.setting.hl7_port, WARM_UP_ORDERS, orders, self.connections)
            cpu_s = meter.cpu_s()
        flushes.append(appends_per_s(run.folder))
        found = _items_today(run.peer.dicom_port)
        if found != WARM_UP_ORDERS + orders:
            raise PeerFailed(f"{found} items in the worklist after {WARM_UP_ORDERS + orders} orders")
        return {
            "orders": orders,
            "orders_per_s": orders / acknowledged.elapsed_s,
            **percentiles(acknowledged.times_ms),
            "gateway_cpu_ms": cpu_s.get(GATEWAY_OTHER, 0.0) / orders * 1000,
            "appends_per_s": sum(flushes) / len(flushes),
        }


def _items_today(port: int) -> int:
    with Association(port, association_request([WORKLIST_FIND])) as association:
        asked = question(0, {"ScheduledProcedureStepStartDate": day(0)}, {})
        found = association.find(WORKLIST_FIND, asked.identifier).pending
        association.release()
    return found


ORDER_CASES: tuple[Case, ...] = (OrderCase(1), OrderCase(16))
