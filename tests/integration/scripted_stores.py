"""C-STOREs to gateways with a script."""

from pathlib import Path
from typing import Any

from tests.conftest import MakeGateway
from tests.integration.gateways import ct
from tests.support.rawdicom import RawPeer
from tests.support.standalone import Gateway


def gateway_with_script(
    make_gateway: MakeGateway, folder: Path, text: str, *, workers: int = 1, **options: Any
) -> Gateway:
    """Start a standalone gateway whose script is `text`, without any Orthanc; the test stops at acceptance."""
    script = folder / "script.py"
    script.write_text(text)
    gateway = make_gateway(DicomGateway={"Script": str(script), "Workers": workers, "ScriptOptions": options})
    gateway.start()
    return gateway


def statuses(gateway: Gateway, uids: list[str], calling: str = "STORESCU") -> list[int]:
    """Of one C-STORE for each UID, on one association."""
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(calling=calling)
        return [peer.store(uid, ct(uid, 1000)).status for uid in uids]
