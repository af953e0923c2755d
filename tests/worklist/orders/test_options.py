"""What a site can change, for all and for one sender: field map, station rules. Mistakes are refused at the start."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.options.hl7 import Hl7Section
from tests.worklist.orders.messages import PID, Worklist, group, message, msh, orm, value
from worklist.hl7.errors import MessageError


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["OBR-99", "OBR-3"], "F100"),
        ("ORC-2.1", "P100"),
        ("OBR-4.4-6", "ABD1"),
        ("=FIXED", "FIXED"),
        (["PV1-19", "=FIXED"], "V100"),
        (["ZZZ-1", "=FIXED"], "FIXED"),
    ],
)
def test_a_field_map_of_the_site(worklist: Worklist, sources: Any, expected: str) -> None:
    worklist.configure(FieldMap={"AccessionNumber": sources})
    worklist.send(orm())
    assert value(worklist.item, "AccessionNumber") == expected


def test_attributes_that_are_not_in_the_map_can_be_added_and_others_left_out(worklist: Worklist) -> None:
    worklist.configure(
        FieldMap={
            "WorklistLabel": "MSH-5.1",
            "StudyDescription": "OBR-4.2",
            "ScheduledProcedureStepSequence.CommentsOnTheScheduledProcedureStep": "PV1-3.1",
            "PatientWeight": "OBX[WT]-5",
            "ReferringPhysicianName": None,
            "PregnancyStatus": "=4",
        }
    )
    order = orm().replace("\rORC", "\rOBX|1|NM|WT^Gewicht||70|kg\rORC")
    worklist.send(order)
    item = worklist.item
    assert item.keys.partition == "GATEWAY"
    assert value(item, "StudyDescription") == "CT ABDOMEN"
    assert value(item, "CommentsOnTheScheduledProcedureStep") == "WARD7"
    assert value(item, "PatientWeight") == "70"
    assert value(item, "ReferringPhysicianName") == ""
    assert value(item, "PregnancyStatus") == "4"


def test_a_sender_can_have_a_map_and_rules_of_its_own(worklist: Worklist) -> None:
    worklist.configure(
        FieldMap={"AccessionNumber": "OBR-3", "StudyDescription": "OBR-4.2"},
        Applications={
            "RIS2": {
                "FieldMap": {"AccessionNumber": "OBR-2"},
                "StationRules": [{"If": {"Modality": "CT"}, "AETitle": "OWN"}],
            }
        },
    )
    worklist.send(orm(number="1", step="S1"))
    worklist.send(orm(number="2", step="S2", pid=PID.replace("4711", "2")).replace("|RIS|", "|RIS2|"))
    first, second = worklist.items()
    assert (value(first, "AccessionNumber"), value(second, "AccessionNumber")) == ("F1", "P2")
    assert (value(first, "StudyDescription"), value(second, "StudyDescription")) == ("CT ABDOMEN", "CT ABDOMEN")
    assert (value(first, "ScheduledStationAETitle"), value(second, "ScheduledStationAETitle")) == ("CT1", "OWN")


@pytest.mark.parametrize(
    ("rules", "station"),
    [
        ([{"AETitle": "ALL"}], "ALL"),
        ([{"If": {"OBR-24": "MR"}, "AETitle": "MR"}, {"AETitle": "REST"}], "REST"),
        ([{"If": {"PV1-3.1": ["ER", "WARD*"], "OBR-24": "ct"}, "AETitle": "WARD"}], "WARD"),
        ([{"If": {"PV1-3.1": "WARD?", "OBR-24": "MR"}, "AETitle": "NO"}, {"AETitle": "YES"}], "YES"),
        ([{"If": {"RequestedProcedureDescription": "*abdomen*"}, "AETitle": "ABD"}], "ABD"),
        ([{"If": {"ZZZ-1": "?*"}, "AETitle": "NO"}, {"If": {"ZZZ-1": ""}, "AETitle": "EMPTY"}], "EMPTY"),
        ([{"If": {"DG1-3": "*"}, "AETitle": "ANY"}], "ANY"),
    ],
)
def test_the_first_rule_whose_conditions_hold_gives_the_station(
    worklist: Worklist, rules: list[dict[str, Any]], station: str
) -> None:
    worklist.configure(StationRules=rules)
    worklist.send(orm())
    assert value(worklist.item, "ScheduledStationAETitle") == station


def test_an_order_that_names_its_station_keeps_it(worklist: Worklist) -> None:
    worklist.configure(FieldMap={"ScheduledStationAETitle": "ORC-18.1"})
    orc, obr = group()
    worklist.send(message(msh("ORM^O01"), PID, orc + "|" * 6 + "THEIRS", obr))
    assert value(worklist.item, "ScheduledStationAETitle") == "THEIRS"
    assert value(worklist.item, "ScheduledStationName") == "CT ROOM 1"
    worklist.send(orm("XO", ordered="20260301090000"))
    assert value(worklist.item, "ScheduledStationAETitle") == "THEIRS"


def test_rules_are_asked_again_when_an_order_changes(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(orm("XO", modality="MR", ordered="20260301090000"))
    assert value(worklist.item, "ScheduledStationAETitle") == "MR1"
    assert value(worklist.item, "ScheduledStationName") == ""


def test_an_update_that_is_silent_about_a_condition_leaves_the_station(worklist: Worklist) -> None:
    worklist.configure(StationRules=[{"If": {"OBR-24": "CT"}, "AETitle": "CT7"}, {"AETitle": "REST"}])
    worklist.send(orm())
    worklist.send(message(msh("ORM^O01", "2"), PID, "ORC|XO|P100|F100", "OBR|1|||CT^CT OF THE HEAD"))
    assert value(worklist.item, "RequestedProcedureDescription") == "CT OF THE HEAD"
    assert value(worklist.item, "ScheduledStationAETitle") == "CT7"


def test_a_rule_may_give_the_modality(worklist: Worklist) -> None:
    worklist.configure(StationRules=[{"If": {"OBR-4.1": "CT*"}, "AETitle": "CT7", "Modality": "CT"}])
    worklist.send(orm(modality=""))
    assert value(worklist.item, "Modality") == "CT"
    with pytest.raises(MessageError, match="StationRules"):
        worklist.send(orm(number="9", step="S9", modality="").replace("CTABD", "MRABD"))


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"FieldMap": {"NoSuchKeyword": "OBR-4"}}, "NoSuchKeyword"),
        ({"FieldMap": {"PixelData": "OBR-4"}}, "PixelData"),
        ({"FieldMap": {"ScheduledProcedureStepStatus": "OBR-4"}}, "ScheduledProcedureStepStatus"),
        ({"FieldMap": {"AccessionNumber": "OBR4"}}, "OBR4"),
        ({"FieldMap": {"RequestedProcedureCodeSequence": "=CT"}}, "RequestedProcedureCodeSequence"),
        ({"FieldMap": {"PregnancyStatus": "=yes"}}, "PregnancyStatus"),
        ({"FieldMap": {"StudyInstanceUID": "=1.2"}}, "StudyInstanceUID"),
        ({"FieldMap": {"InstitutionName": "="}}, "InstitutionName"),
        ({"OrderControl": {"NW": "EXPLODE"}}, "NW"),
        ({"OrderControl": {"nw-sc": "CREATE"}}, "nw-sc"),
        ({"PatientEvents": {"A1": "UPDATE"}}, "A1"),
        ({"StationRules": [{"If": {"OBR-24": "CT"}}]}, "AETitle"),
        ({"StationRules": [{"If": {"Modalities": "CT"}, "AETitle": "X"}]}, "Modalities"),
        ({"StationRules": [{"If": {"OBR-24": []}, "AETitle": "X"}]}, "OBR-24"),
        ({"StationRules": [{"AETitle": "SEVENTEEN LETTERS"}]}, "AETitle"),
        ({"TimeZone": "Middle/Earth"}, "TimeZone"),
        ({"TimeZone": "../etc/passwd"}, "TimeZone"),
        ({"AbsentSteps": "Maybe"}, "AbsentSteps"),
        ({"Applications": {"RIS": {"FieldMap": {"AccessionNumber": "x"}}}}, "RIS"),
        ({"Applications": {"RIS": {"Port": 1}}}, "Port"),
    ],
)
def test_mistakes_are_refused_at_the_start(options: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        Hl7Section.model_validate(options)
