"""Storage commitment towards called AE titles that are DICOMweb servers: answered from what a real origin lists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from gateway import cli
from tests.integration.commitments import COMMIT, CONTEXTS, STORE
from tests.integration.gateways import IMPATIENT, ct, spool_of, wait_until_drained
from tests.support.commitments import Requester, ask, ct_of
from tests.support.orthanc import DICOMWEB_PLUGIN, Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, RawPeer
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0110, 0x0112, 0x0119
DEADLINE_S: Final = 30


@dataclass
class Site:
    """A gateway without Orthanc before an origin, which it knows under several titles."""

    gateway: Gateway
    origin: Orthanc
    port: int

    def outcome(self, called: str, uid: str, references: list[tuple[str, str]], *store: str) -> Any:
        """Stores and asks on one association; what the report says."""
        with Requester(port=self.port) as requester, RawPeer(self.gateway.dicom_port) as peer:
            peer.associate(CONTEXTS, calling="ONE", called=called)
            for one in store:
                assert peer.store(one, ct(one), context_id=STORE).status == 0
            assert ask(peer, uid, references, context_id=COMMIT).status == 0
            peer.release()
            return requester.next()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory: Path = tmp_path_factory.mktemp("commitment")
    with ExitStack() as stack:

        def started(server: Any) -> Any:
            stack.callback(server.close)
            server.start()
            return server

        origin = started(Orthanc(directory / "origin", Plugins=[DICOMWEB_PLUGIN]))
        port = free_port()
        url = {"Url": f"{origin.url}/dicom-web"}
        gateway = Gateway(
            directory / "gateway",
            DicomAet="PROXY",
            DicomModalities={"one": {"AET": "ONE", "Host": "127.0.0.1", "Port": port, "Timeout": 2}},
            DicomGateway={
                "Workers": 1,
                "Forwarding": IMPATIENT,
                "StorageCommitment": {"GracePeriod": "0s", "RetryDelay": "0s"},
                "DicomWebServers": {
                    "CLOUD": url,
                    "LISTS": {**url, "QidoUidLists": True},
                    "DEAD": {"Url": f"http://127.0.0.1:{free_port()}", "Attempts": 1},
                    "CLOSED": {**url, "AllowStorageCommitment": False},
                },
            },
        )
        yield Site(started(gateway), origin, port)


@pytest.mark.parametrize("called", ["CLOUD", "LISTS"])
def test_what_is_on_its_way_is_committed_when_the_server_has_it(site: Site, called: str) -> None:
    uids = [f"1.2.{len(called)}.{number}" for number in range(60)]
    report = site.outcome(called, f"1.2.90.{len(called)}", ct_of(*uids), *uids)
    assert (report.event_type, report.failed, report.committed) == (1, {}, ct_of(*uids))
    assert report.retrieve_ae_title == called


@pytest.mark.parametrize("called", ["CLOUD", "LISTS"])
def test_each_instance_that_is_not_safe_has_its_reason(site: Site, called: str) -> None:
    good, other, absent = (f"1.3.{len(called)}.{number}" for number in range(3))
    references = [(CT_IMAGE, good), (MR_IMAGE, other), (CT_IMAGE, absent)]
    report = site.outcome(called, f"1.3.90.{len(called)}", references, good, other)
    assert report.failed == {other: CLASS_CONFLICT, absent: NO_SUCH_INSTANCE}


def test_what_the_server_refused_is_a_processing_failure_there_only(site: Site) -> None:
    with RawPeer(site.gateway.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="ONE", called="DEAD")
        assert peer.store("1.4.1", ct("1.4.1"), context_id=STORE).status == 0
        peer.release()
    spool = spool_of(site.gateway)
    (name,) = wait_until(lambda: spool.names(spool.ready), DEADLINE_S, "nothing waits")
    spool.fail(spool.ready / name, {"reason": "as if DEAD had refused it"})
    cloud = spool.failed / name.replace("DEAD", "CLOUD")
    (spool.failed / name).rename(cloud)
    report = site.outcome("CLOUD", "1.4.90", ct_of("1.4.1"))
    assert report.failed == {"1.4.1": PROCESSING_FAILURE}
    spool.discard(cloud.name)
    report = site.outcome("LISTS", "1.4.91", ct_of("1.4.1"))
    assert report.failed == {"1.4.1": NO_SUCH_INSTANCE}


def test_nobody_else_is_asked(site: Site) -> None:
    """The instance is on the server, but another one is asked for it: it is not known whether it has it."""
    site.outcome("CLOUD", "1.5.90", ct_of("1.5.1"), "1.5.1")
    wait_until_drained(site.gateway)
    with RawPeer(site.gateway.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="ONE", called="DEAD")
        assert ask(peer, "1.5.91", ct_of("1.5.1"), context_id=COMMIT).status == 0
        peer.release()

    def shown() -> str:
        numbers = [line.split()[0] for line in command("list", "--requester", "ONE").splitlines() if "ONE" in line]
        return command("show", *numbers)

    def command(*arguments: str) -> str:
        return CliRunner().invoke(cli.app, ["commitment", *arguments, "-c", str(site.gateway.file)]).output

    wait_until(lambda: "the archive does not answer: DEAD: no answer" in shown(), DEADLINE_S, shown)


def test_permission_is_that_of_the_called_title(site: Site) -> None:
    for called, result in (("CLOUD", 0), ("CLOSED", 1), ("PROXY", 1)):
        with RawPeer(site.gateway.dicom_port) as peer:
            assert peer.associate(CONTEXTS, calling="ONE", called=called).results[COMMIT] == result, called
