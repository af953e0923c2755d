"""What a filter of incoming instances costs: the same script in the gateway and in Orthanc's Python plugin."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.case import Case
from bench.peers import ORTHANC_PYTHON_PLUGIN, PEERS, REPOSITORY, VARIANTS, Kind, OrthancPeer, Setting
from bench.store_cases import StoreCase

SCRIPT = REPOSITORY / "bench" / "filter_script.py"
WITHOUT, WITH = "gateway", "gateway-filter"


def _orthanc_with_filter(folder: Path, setting: Setting) -> OrthancPeer:
    options = {**setting.orthanc, "Plugins": [str(ORTHANC_PYTHON_PLUGIN)], "PythonScript": str(SCRIPT)}
    return OrthancPeer(folder, replace(setting, orthanc=options), nodelay=True)


PEERS[WITH] = Kind(partial(OrthancPeer, gateway={"Script": str(SCRIPT)}), "the gateway with `bench/filter_script.py`")
PEERS["orthanc-filter-nd"] = Kind(_orthanc_with_filter, "orthanc-nd with the same script in its Python plugin")


@dataclass(frozen=True)
class FilterCase(StoreCase):
    """A store case whose peers have the filter, or do not."""

    group: str = field(default="filter", init=False)

    @property
    def name(self) -> str:
        return f"filter-{self.shape}-{self.associations}"

    @property
    def peers(self) -> tuple[str, ...]:
        return (WITHOUT, WITH, *VARIANTS, "orthanc-nd", "orthanc-filter-nd", "orthanc-nd-again")


FILTER_CASES: tuple[Case, ...] = tuple(
    FilterCase(shape, associations, nodelay=True) for shape in ("mr128", "ct512") for associations in (1, 4)
)
