"""Which segments of a message belong together: an order with its steps, a patient with what was merged into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from worklist.orders.reader import Part, Segment


@dataclass(frozen=True, slots=True)
class Order:
    """One ORC/OBR group, or one appointment, and its steps (IPC, AIS). There is always one step."""

    part: Part
    steps: tuple[Part, ...]
    # Which segment tells that a step is one: "" if the order has one step that no segment stands for.
    step_segment: str


def orders(segments: Sequence[Segment]) -> list[Order]:
    """The orders of ORM, OMG, OMI and ORU messages: each begins with ORC, or with OBR where there is no ORC.

    What an order does not have is looked for before the first order: PID, PV1, NTE. IHE puts one ZDS at the end of a
    message, for all of its orders (IHE RAD TF-2, 4.4.4.1.2); weight, height and allergies are the patient's, wherever
    they stand.
    """
    starts = [index for index, segment in enumerate(segments) if _begins_order(segments, index)]
    common = segments[: starts[0]] if starts else segments
    of_the_patient = [segment for segment in segments if segment.name in ("AL1", "OBX", "PV1")]
    studies = [segment for segment in segments if segment.name == "ZDS"]
    for_all = [*of_the_patient, *studies] if len(studies) == 1 else of_the_patient
    groups = _split(segments, starts)
    heads = [_common_head(groups[:number], group) for number, group in enumerate(groups)]
    return [_order([*head, *group], common, for_all, "IPC") for head, group in zip(heads, groups, strict=True)]


def _common_head(before: Sequence[Sequence[Segment]], group: Sequence[Segment]) -> Sequence[Segment]:
    """ORC and what stands between it and its first OBR, for one of several OBR behind one ORC.

    HL7 wants an ORC for each; many senders write one for all procedures of an order. An OBR with numbers of its own
    is another order.
    """
    last = next((one for one in reversed(before) if one[0].name == "ORC"), None)
    if last is None or group[0].name != "OBR":
        return ()
    if any((own := group[0].text(field)) and own != last[0].text(field) for field in (2, 3)):
        return ()
    return list(takewhile(lambda segment: segment.name != "OBR", last))


def _begins_order(segments: Sequence[Segment], index: int) -> bool:
    if segments[index].name == "ORC":
        return True
    if segments[index].name != "OBR":
        return False
    before = next((segment.name for segment in reversed(segments[:index]) if segment.name in ("ORC", "OBR")), "")
    # ORC [TQ1] OBR is one order, OBR OBR are two.
    return before != "ORC"


def appointment(segments: Sequence[Segment]) -> Order:
    """The order of an SIU message: each AIS, with the AIG, AIL and AIP that follow it, is a step."""
    return _order(segments, (), (), "AIS")


def _order(
    segments: Sequence[Segment], common: Sequence[Segment], for_all: Sequence[Segment], step_segment: str
) -> Order:
    part = Part(segments, common, for_all)
    starts = [index for index, segment in enumerate(segments) if segment.name == step_segment]
    if not starts:
        return Order(part, (part,), "")
    before = segments[: starts[0]]
    steps = _split(segments, starts)
    return Order(part, tuple(Part(step, before, segments, common, for_all) for step in steps), step_segment)


def merges(segments: Sequence[Segment]) -> list[Part]:
    """The patients of an ADT message: each PID with what follows it."""
    starts = [index for index, segment in enumerate(segments) if segment.name == "PID"]
    common = segments[: starts[0]] if starts else segments
    return [Part(group, common) for group in _split(segments, starts)]


def _split(segments: Sequence[Segment], starts: Sequence[int]) -> list[Sequence[Segment]]:
    """From each start to the next."""
    return [segments[start:end] for start, end in zip(starts, [*starts[1:], len(segments)], strict=False)]
