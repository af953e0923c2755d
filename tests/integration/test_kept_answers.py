"""A gateway inside Orthanc answers what it was asked before while Orthanc's database is as it was, and no longer."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.conftest import MakeOrthanc
from tests.integration.test_query_index import count, store, wait_until_filled
from tests.support.processes import wait_until

pytestmark = pytest.mark.integration

TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 1.0


def test_the_next_query_sees_what_happens_to_orthanc(make_orthanc: MakeOrthanc) -> None:
    """That nobody asks Orthanc is seen from answers that come while it is stopped."""
    orthanc = make_orthanc(gateway=True, DicomAlwaysAllowFind=True, DicomGateway={"Workers": 1})
    orthanc.start()
    store(orthanc, 1)
    wait_until_filled(orthanc)

    def answers_alone() -> bool:
        assert count(orthanc, "P*") == 1
        found: list[int] = []
        asking = threading.Thread(target=lambda: found.append(count(orthanc, "P*")))
        os.kill(orthanc.pid, signal.SIGSTOP)
        try:
            asking.start()
            asking.join(ANSWER_TIMEOUT_S)
            is_answered = bool(found)
        finally:
            os.kill(orthanc.pid, signal.SIGCONT)
        asking.join()
        assert found == [1]
        return is_answered

    wait_until(answers_alone, TIMEOUT_S, "Orthanc is asked each time")
    store(orthanc, 2)
    assert count(orthanc, "P*") == 2
    (patient,) = orthanc.post("/tools/find", json={"Level": "Patient", "Query": {"PatientID": "P1"}})
    assert count(orthanc, "P1") == 1
    orthanc.delete(f"/patients/{patient}")
    assert count(orthanc, "P*") == 1
    assert count(orthanc, "P1") == 0
