"""What senders do that do not hold to HL7 or IHE, and what a modality must see of it."""

import pytest

from tests.worklist.orders.messages import ORC, PID, PV1, ZDS, Worklist, group, message, msh, orm, value
from worklist.hl7.errors import ErrorCode, MessageError


def obr(step: str, *, number: str = "100", modality: str = "CT") -> str:
    return group(number=number, step=step, modality=modality)[1]


def order_with(*segments: str) -> str:
    return message(msh("ORM^O01"), PID, PV1, *segments)


def test_one_orc_is_for_all_obr_behind_it(worklist: Worklist) -> None:
    orc = ORC.format(control="NW", status="", ordered="20260301080000")
    orc = orc.replace("P100", "P100").replace("F200", "F100")
    worklist.send(order_with(orc, obr("S1"), "NTE|1||native", obr("S2", modality="MR"), ZDS))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "SCHEDULED"}
    assert [value(item, "Modality") for item in worklist.items()] == ["CT", "MR"]
    assert [value(item, "RequestedProcedureComments") for item in worklist.items()] == ["native", ""]
    assert [item.keys.placer.number for item in worklist.items()] == ["P100", "P100"]
    worklist.send(order_with(orc.replace("ORC|NW", "ORC|CA"), obr("S1"), obr("S2")))
    assert set(worklist.statuses().values()) == {"CANCELED"}


def test_an_obr_with_numbers_of_its_own_needs_an_orc_of_its_own(worklist: Worklist) -> None:
    with pytest.raises(MessageError) as caught:
        worklist.send(order_with(*group(number="100", step="S1"), obr("S2", number="101")))
    assert caught.value.location == "ORC^1^1"
    assert worklist.items() == []


def test_former_results_go_with_an_order(worklist: Worklist) -> None:
    prior = ["ORC|PR|OLD1|OLD2", "OBR|1|OLD1|OLD2|XR^CHEST^L", "OBX|1|TX|1||normal"]
    result = worklist.send(message(msh("OMG^O19"), PID, PV1, *group(), *prior))
    assert result.text.startswith("order control without effect; item ")
    assert worklist.statuses() == {"S500": "SCHEDULED"}


@pytest.mark.parametrize("said", ["B6", "A2~B6", "B6^Pregnant^HL70009", '""~B6'])
def test_a_pregnancy_is_told_wherever_it_stands_among_the_conditions(worklist: Worklist, said: str) -> None:
    fields = PV1.split("|")
    fields[15] = said
    worklist.send(orm().replace(PV1, "|".join(fields)))
    assert value(worklist.item, "PregnancyStatus") == "3"


@pytest.mark.parametrize(
    ("said", "modality"),
    [("CT", "CT"), ("ct", "CT"), ("NMR", "MR"), ("NMS", "NM"), ("RUS", "US"), ("CT~MR", "CT"), ("RAD~MR", "MR")],
)
def test_codes_of_table_0074_are_modalities(worklist: Worklist, said: str, modality: str) -> None:
    worklist.send(orm(modality=said))
    assert value(worklist.item, "Modality") == modality


def test_a_section_of_the_department_is_no_modality_and_leaves_it_to_the_rules(worklist: Worklist) -> None:
    worklist.configure(StationRules=[{"If": {"OBR-24": "RAD", "OBR-4.1": "CT*"}, "AETitle": "X1", "Modality": "DX"}])
    worklist.send(orm(modality="RAD"))
    assert value(worklist.item, "Modality") == "DX"
    with pytest.raises(MessageError) as caught:
        worklist.configure(StationRules=[{"AETitle": "X1"}])
        worklist.send(orm(modality="RAD", number="101"))
    assert caught.value.code is ErrorCode.REQUIRED_FIELD_MISSING


def test_numbers_that_are_too_long_for_dicom_do_not_become_the_same(worklist: Worklist) -> None:
    for number in ("1", "2"):
        long = orm(number=number, step=f"STEP-{'0' * 20}{number}", zds=False)
        worklist.send(long.replace(f"|A{number}|", f"|ACCESSION-2026-000{number}|"))
    accessions = [item.keys.accession_number for item in worklist.items()]
    steps = [item.keys.scheduled_procedure_step_id for item in worklist.items()]
    for found in (accessions, steps):
        assert len(set(found)) == 2 and all(len(one) <= 16 for one in found)
    assert accessions[0].startswith("ACCESSI-")
