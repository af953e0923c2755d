"""Messages as RIS send them, and how tests hand them to the handler."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete, select

from gateway.database import Database
from gateway.matching.attributes import Attributes
from gateway.options.hl7 import Hl7Section
from gateway.options.orders import tag_of
from worklist import store
from worklist.hl7.decoding import decode, parse
from worklist.hl7.handling import Received, Result
from worklist.items import Item, text_of
from worklist.orders.handler import OrderHandler
from worklist.orders.tables import EARLY
from worklist.tables import ITEMS

RULES: Final[list[dict[str, Any]]] = [
    {"If": {"Modality": "CT"}, "AETitle": "CT1", "Name": "CT ROOM 1"},
    {"If": {"Modality": "MR"}, "AETitle": "MR1"},
    {"AETitle": "ANY", "Modality": "OT"},
]
MSH: Final = "MSH|^~\\&|RIS|HOSP|GATEWAY|HOSP|20260301080000||{kind}|{id}|P|2.3.1||||||UNICODE UTF-8"
PID: Final = "PID|1||4711^^^HOSP^MR||DOE^JOHN^A^JR^DR||19500203|M"
PV1: Final = "PV1|1|O|WARD7^12^A^HOSP||||^^|RV^WELBY^MARCUS^^^DR|||||||||||V100^^^HOSP"
ORC: Final = "ORC|{control}|P100^PLACER|F200^FILLER||{status}||^^^20260302093000^^R||{ordered}|||OP1^ORDERER^OLGA"
OBR: Final = (
    "OBR|1|P100^PLACER|F200^FILLER|CTABD^CT ABDOMEN^L^ABD1^ABDOMEN NATIVE^LOCAL|||||||||ALERT|||RQ^QUINN^MICHAELA||"
    "{accession}|{procedure}|{step}||||{modality}|||^^^20260302093000^^R||||PAIN^ABDOMINAL PAIN^L"
)
ZDS: Final = "ZDS|1.2.826.0.1.3680043.9.1.100^100^Application^DICOM"


def orm(
    control: str = "NW",
    *,
    status: str = "",
    sent: str = "20260301080000",
    ordered: str = "20260301080000",
    number: str = "100",
    modality: str = "CT",
    step: str = "S500",
    pid: str = PID,
    zds: bool = True,
    control_id: str = "",
) -> str:
    """One order, in one group."""
    segments = [
        msh("ORM^O01", control_id or f"{control}{sent}{ordered}{step}", sent),
        pid,
        PV1,
        *group(control, status=status, ordered=ordered, number=number, modality=modality, step=step),
    ]
    return message(*segments, *([ZDS.replace(".100^", f".{number}^")] if zds else []))


def group(
    control: str = "NW",
    *,
    status: str = "",
    ordered: str = "20260301080000",
    number: str = "100",
    modality: str = "CT",
    step: str = "S500",
) -> list[str]:
    """ORC and OBR."""
    orc = ORC.format(control=control, status=status, ordered=ordered)
    obr = OBR.format(accession=f"A{number}", procedure=f"R{number}", step=step, modality=modality)
    return [segment.replace("P100", f"P{number}").replace("F200", f"F{number}") for segment in (orc, obr)]


def msh(kind: str, control_id: str = "1", sent: str = "20260301080000") -> str:
    """A header."""
    return MSH.format(kind=kind, id=control_id).replace("20260301080000", sent)


def message(*segments: str) -> str:
    """A message of segments."""
    return "".join(f"{segment}\r" for segment in segments if segment)


def received(text: str | bytes) -> Received:
    """As the listener would hand it on."""
    body = text if isinstance(text, bytes) else text.encode()
    decoded = decode(body, "8859/1")
    return Received(decoded.header, parse(decoded), decoded.text, "192.0.2.1", datetime(2026, 3, 1, 8, tzinfo=UTC))


class Worklist:
    """A worklist that messages are sent to."""

    def __init__(self, database: Database, options: Mapping[str, Any] | None = None) -> None:
        self.database = database
        self.configure(**(options or {}))

    def configure(self, **options: Any) -> None:
        """`DicomGateway.Hl7`."""
        section = Hl7Section.model_validate({"StationRules": RULES, **options})
        self.handler = OrderHandler(section, section.default_character_set)

    def clear(self) -> None:
        """Forget everything."""
        with self.database.write(lock=store.LOCK) as connection:
            connection.execute(delete(ITEMS))
            connection.execute(delete(EARLY))

    def send(self, text: str | bytes) -> Result:
        """Hand a message over, in a transaction of its own."""
        return self.handle(received(text))

    def handle(self, taken: Received) -> Result:
        """Act on a message in a transaction of its own."""
        with self.database.write(lock=store.LOCK) as connection:
            return self.handler.handle(taken, connection)

    def items(self) -> list[Item]:
        """All there are."""
        with self.database.read() as connection:
            found = connection.execute(select(ITEMS.c.id).order_by(ITEMS.c.id)).scalars()
            return [item for number in found if (item := store.get(connection, number)) is not None]

    @property
    def item(self) -> Item:
        """The only one."""
        (item,) = self.items()
        return item

    def statuses(self) -> dict[str, str]:
        """By Scheduled Procedure Step ID."""
        return {item.keys.scheduled_procedure_step_id: item.status.value for item in self.items()}

    def contents(self) -> list[Attributes]:
        """What a modality could see."""
        found = sorted(self.items(), key=lambda item: item.keys.scheduled_procedure_step_id)
        return [item.attributes for item in found]


def value(item: Item, keyword: str) -> str:
    """An attribute, wherever it stands in the item."""
    tag = tag_of(keyword)
    return text_of(item.attributes, tag) or text_of(item.step, tag)
