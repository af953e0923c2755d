"""What is in `failed` is known by what queries ask for, until it is sent again or discarded."""

from dataclasses import replace
from pathlib import Path

from pydicom import dcmread

from gateway.deliveries import Wanted
from gateway.forwarding.refused import RefusedInstances
from tests.support.images import make_cts
from tests.support.spooled import Receiver


def test_refused_instances_are_found_until_they_leave_the_folder(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "state")
    spool, names = receiver.spool, []
    files = make_cts(tmp_path / "images", 3, 8, 8)
    for file in files:
        ready = receiver.ready(file).path
        names.append(ready.name)
        spool.fail(ready, {"reason": "BadFileFormat"})
    study = str(dcmread(files[0]).StudyInstanceUID)
    uids = [str(dcmread(file).SOPInstanceUID) for file in files]
    of_study, of_another = (Wanted(study_instance_uids=frozenset({uid})) for uid in (study, "1.2.3"))

    refused = RefusedInstances(spool)
    assert refused.matching(of_study) == []
    refused.add(names[0])
    assert [one.sop_instance_uid for one in refused.matching(of_study)] == uids[:1]
    refused.load()
    refused.add("not there.dcm")
    assert {one.sop_instance_uid for one in refused.matching(of_study)} == set(uids)
    assert refused.matching(of_another) == []
    spool.retry(names[0])
    spool.discard(names[1])
    assert [one.sop_instance_uid for one in refused.matching(of_study)] == uids[2:]
    for_a_server = receiver.ready(files[0], "CLOUD").path
    spool.fail(for_a_server, {"reason": "HTTP 409"})
    refused.add(for_a_server.name)
    assert [one.sop_instance_uid for one in refused.matching(of_study)] == uids[2:]
    assert [one.sop_instance_uid for one in refused.matching(replace(of_study, destination="CLOUD"))] == uids[:1]
    receiver.writer.close()
