"""Orders over MLLP into a running gateway's worklist."""

import os
import signal

import pytest

from gateway import database
from tests.conftest import MakeGateway
from tests.integration.gateways import process_of
from tests.support.mllp import Sender, code_of, order, segments
from tests.support.ports import free_port
from tests.support.standalone import Gateway
from worklist import items, store
from worklist.items import Item, Patient, text_of

pytestmark = pytest.mark.integration

OPTIONS = {"StationRules": [{"If": {"OBR-4.1": "CT*"}, "AETitle": "CT1", "Modality": "CT"}]}


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    made = make_gateway(DicomGateway={"Workers": 1, "Hl7": {"Port": free_port(), **OPTIONS}})
    made.start()
    return made


def hl7_port(gateway: Gateway) -> int:
    return int(gateway.configuration["DicomGateway"]["Hl7"]["Port"])


def items_of(gateway: Gateway, patient_id: str) -> list[Item]:
    opened = database.connect_sqlite(gateway.state_directory / database.SQLITE_NAME)
    try:
        with opened.read() as connection:
            return store.find(connection, patient=Patient(patient_id))
    finally:
        opened.close()


def test_an_order_that_was_acknowledged_is_in_the_worklist_after_kill_9(gateway: Gateway) -> None:
    with Sender(hl7_port(gateway)) as sender:
        for number in range(20):
            assert code_of(sender.ask(order(f"A{number}", name="MÜLLER^JÜRGEN", msh18="UNICODE UTF-8"))) == "AA"
        os.kill(process_of(gateway, "worklist.hl7"), signal.SIGKILL)
    gateway.kill()
    for number in range(20):
        (item,) = items_of(gateway, f"PA{number}")
        assert text_of(item.attributes, items.PATIENT_NAME) == "MÜLLER^JÜRGEN"
        assert item.keys.stations == ("CT1",)


def test_a_message_that_comes_again_changes_nothing(gateway: Gateway) -> None:
    cancel = order("2", rest="").replace(b"ORC|NW|2|F2", b"ORC|CA|1|F1").replace(b"P2^^^", b"P1^^^")
    with Sender(hl7_port(gateway)) as sender:
        first = sender.ask(order("1"))
        assert code_of(sender.ask(cancel)) == "AA"
        assert sender.ask(order("1")) == first
    (item,) = items_of(gateway, "P1")
    assert item.status.value == "CANCELED"


def test_a_wrong_order_is_refused_with_its_place_and_changes_nothing(gateway: Gateway) -> None:
    with Sender(hl7_port(gateway)) as sender:
        assert code_of(sender.ask(order("1"))) == "AA"
        wrong = sender.ask(order("2", rest="ORC|NW|3|F3\rOBR|2|3|F3|MR^MR HEAD"))
        assert code_of(wrong) == "AE"
        assert segments(wrong)["ERR"][2].startswith("IPC^1^9")
        assert "StationRules" in segments(wrong)["ERR"][8]
    assert len(items_of(gateway, "P1")) == 1
    assert items_of(gateway, "P2") == []


def test_a_field_map_that_is_wrong_stops_the_start(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway={"Hl7": {"FieldMap": {"AccessionNumber": "OBR"}}})
    gateway.launch()
    assert gateway.wait(20) != 0
    assert "Hl7.FieldMap.AccessionNumber" in gateway.log_text()
