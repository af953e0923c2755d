"""The driver of an archive whose listing was wrong about transfer syntaxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.archive.interface import EncodedInstance, InstanceReference, Level, Selection
from gateway.moves.archive_driver import ArchiveDriver
from gateway.moves.interface import Acceptance, Outcome, SubOperation
from tests.support.instances import EXPLICIT, MemoryArchive, instance

JPEG, RLE = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5"
SELECTION = Selection(Level.STUDY, {0x0020000D: ("1.2",)})


class LyingArchive(MemoryArchive):
    """Gives each instance in the transfer syntax that `truth` has for it, whatever it has listed."""

    def __init__(self, instances: Sequence[InstanceReference], truth: dict[str, str | list[str]]) -> None:
        super().__init__(instances)
        self.truth = truth

    def give(self, one: InstanceReference, transfer_syntax_uid: str | None) -> EncodedInstance:
        given = super().give(one, transfer_syntax_uid)
        found = self.truth.get(one.sop_instance_uid, one.transfer_syntax_uid)
        return replace(given, transfer_syntax_uid=found.pop(0) if isinstance(found, list) else found)


class Ready:
    """A Target that is ready for what it was told of, and takes nothing else."""

    def __init__(self) -> None:
        self.begun: list[set[str]] = []
        self.stored: list[tuple[str, str]] = []

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        self.begun.append({one.transfer_syntax_uid for one in instances})
        return [Acceptance() for _ in instances]

    def store(
        self, one: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        assert encoded.transfer_syntax_uid in self.begun[-1]
        self.stored.append((one.sop_instance_uid, encoded.transfer_syntax_uid))
        return SubOperation(Outcome.COMPLETED, one.sop_instance_uid)

    def waiting(self) -> None:
        """Nobody waits."""


def moved(archive: MemoryArchive) -> tuple[Ready, list[SubOperation]]:
    target = Ready()
    driver = ArchiveDriver(archive, SELECTION, target)
    try:
        return target, [driver.apply() for _ in range(driver.size())]
    finally:
        driver.free()


def test_all_of_a_kind_are_corrected_at_once() -> None:
    instances = [instance(number) for number in range(50)]
    archive = LyingArchive(instances, {one.sop_instance_uid: JPEG for one in instances})
    target, done = moved(archive)
    assert {one.outcome for one in done} == {Outcome.COMPLETED}
    assert sorted(target.stored) == sorted((one.sop_instance_uid, JPEG) for one in instances)
    assert target.begun == [{EXPLICIT}, {JPEG}]
    assert len(archive.opened) < 55


def test_a_mixture_is_corrected_one_by_one() -> None:
    instances = [instance(number) for number in range(12)]
    truth: dict[str, str | list[str]] = {
        one.sop_instance_uid: (JPEG, RLE, EXPLICIT)[number % 3] for number, one in enumerate(instances)
    }
    target, done = moved(LyingArchive(instances, truth))
    assert {one.outcome for one in done} == {Outcome.COMPLETED}
    assert dict(target.stored) == truth
    assert len(target.begun) <= 5  # for each kind once, and once for the rest


def test_an_instance_that_is_never_what_it_was_fails_and_the_others_go_out() -> None:
    instances = [instance(number) for number in range(3)]
    fickle = instances[0].sop_instance_uid
    _target, done = moved(LyingArchive(instances, {fickle: [JPEG, RLE, EXPLICIT]}))
    outcomes = {one.sop_instance_uid: one.outcome for one in done}
    assert outcomes.pop(fickle) is Outcome.FAILED
    assert set(outcomes.values()) == {Outcome.COMPLETED}
