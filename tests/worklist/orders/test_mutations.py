"""Whatever a message has become on its way: it is acted on, refused with a reason, and nothing else."""

from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worklist.orders.messages import PID, PV1, Worklist, group, message, msh, orm, received
from worklist import completeness
from worklist.encoding import from_json, to_json
from worklist.hl7.errors import MessageError, Refusal

SAMPLES: Final = [
    orm("NW"),
    orm("XO"),
    orm("CA"),
    message(
        msh("OMI^O23"),
        PID,
        PV1,
        "AL1|1||^IODINE",
        "ORC|NW|P1|F1",
        "TQ1|1||||||20260302093000+0100||R",
        "OBR|1|P1|F1|CT^CT SCAN",
        "NTE|1||note\\.br\\more",
        "OBX|1|NM|8302-2||182|cm",
        "IPC|A1|R1|1.2.3|S1|CT|P^PROTOCOL|||CT1~CT2",
        "IPC|A1|R1|1.2.3|S2|MR|P^PROTOCOL|||MR1",
    ),
    message(msh("OMG^O19"), PID, *group(number="1"), *group("XO", number="2"), *group("DC", number="1")),
    message(msh("SIU^S12"), "SCH|1|2|||||CHECK||||^^15^20260302", PID, "RGS|1", "AIS|1||CT^CT|20260302", "AIP|1||7^W"),
    message(msh("ADT^A08"), PID, PV1),
    message(msh("ADT^A40"), PID, "MRG|4712^^^HOSP"),
    message(msh("ADT^A10"), "EVN||20260302", PID, PV1),
    message(msh("ORU^R01"), PID, "OBR|1|P100|F100|CT^CT" + "|" * 21 + "F", "OBX|1|HD|113014||1.2.3"),
]
SCRAPS: Final = st.one_of(
    st.sampled_from(["|", "^", "~", "&", "\\", "\r", '""', "\\X", "\\.br\\", "\\XFFFF\\", "ORC|", "IPC|", "99999999"]),
    st.text(max_size=5),
)
EDITS: Final = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 12), SCRAPS), max_size=8)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(SAMPLES), EDITS), min_size=1, max_size=3))
def test_mutated_messages_are_acted_on_or_refused(worklist: Worklist, mutated: list[tuple[str, object]]) -> None:
    worklist.configure(ReportsComplete=True, UpdatesChangePatient=True)
    worklist.clear()
    for text, edits in mutated:
        body = text.encode()
        for place, length, scrap in edits:  # type: ignore[attr-defined]
            place %= len(body) + 1
            body = body[:place] + scrap.encode("utf-8", "replace") + body[place + length :]
        try:
            taken = received(body)
        except Refusal:
            continue
        try:
            result = worklist.handle(taken)
            assert result.text and len(result.text) < 500
        except Refusal as refusal:
            assert refusal.text and "\n" not in refusal.text
            assert not isinstance(refusal, MessageError) or len(refusal.location) < 64
    for item in worklist.items():
        assert not completeness.missing(item.attributes)
        assert from_json(to_json(item.attributes)) == item.attributes


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["PID", "PV1", "ORC", "OBR", "OBX", "IPC", "TQ1", "AL1", "DG1", "ZDS", "NTE", "SCH", "AIS"]
            ),
            st.dictionaries(st.integers(1, 50), st.text(max_size=20), max_size=8),
        ),
        max_size=12,
    ),
    st.sampled_from(["ORM^O01", "OMI^O23", "SIU^S12", "SIU^S15", "ADT^A08", "ADT^A40", "ORU^R01"]),
)
def test_made_up_messages_are_acted_on_or_refused(
    worklist: Worklist, segments: list[tuple[str, dict[int, str]]], kind: str
) -> None:
    worklist.configure(ReportsComplete=True)
    lines = [name + "|" + "|".join(fields.get(number, "") for number in range(1, 51)) for name, fields in segments]
    text = message(msh(kind), *(line.replace("\r", " ").replace("\n", " ") for line in lines))
    try:
        taken = received(text.encode("utf-8", "replace"))
        worklist.handle(taken)
    except Refusal as refusal:
        assert refusal.text
