"""What a script makes of an instance before it is sent (RegisterReceivedInstanceCallback): for a gateway on its own.

The instance itself stays in the spool as it was received until it is delivered. What was made of it is written down
(`changed`) before anything is sent, so that what is sent again, whoever has crashed meanwhile, is the same.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from gateway.dicom.part10 import Part10Error
from gateway.dicom.structure import StructureError
from gateway.durable import fsync_directory
from gateway.forwarding.identify import read_delivery
from gateway.forwarding.transports import Unreachable
from gateway.script_host.client import ScriptClient, ScriptFailed, ScriptUnavailable
from gateway.script_host.kinds import Kind
from gateway.spool import SUFFIX, UNFINISHED_SUFFIX, Delivery, Spool, private_opener


class Undecided(Exception):
    """The script gave no answer that counts, for now. The text is for the log."""


class NoInstance(Exception):
    """What the script made of it is none. The text is for the log."""


class ReceivedInstances:
    """The decisions about what is on its way. Thread-safe, for one thread at a time with each delivery."""

    def __init__(self, spool: Spool, script: ScriptClient | None) -> None:
        """`script`: None, nobody is asked; what was decided in an earlier life still counts."""
        self._folder = spool.changed
        self._script = script
        # By name in the spool, what is sent; None: the script has discarded it.
        self._decided: dict[str, Delivery | None] = {}
        self._written_down = _clean_up(spool)

    @property
    def may_change(self) -> bool:
        """Whether the script may change an instance, as far as is known."""
        return self._script is not None and self._script.may_have(Kind.RECEIVED_INSTANCE)

    def decide(self, delivery: Delivery) -> Delivery | None:
        """What is to be sent for `delivery`; None: nothing, the script has discarded it.

        Raises Undecided; NoInstance; Unreachable when the script cannot be asked about anything; OSError.
        """
        name = delivery.path.name
        if name not in self._decided:
            if name in self._written_down:
                self._decided[name] = self.recall(delivery)
            elif self._script is None or not _is_to_be_asked(self._script):
                return delivery
            else:
                self._decided[name] = self._ask(self._script, delivery)
        return self._decided[name]

    def sent(self, delivery: Delivery) -> Delivery:
        """What was decided to be sent for `delivery`."""
        return self._decided.get(delivery.path.name) or delivery

    def recall(self, delivery: Delivery) -> Delivery | None:
        """What was sent in an earlier life, or decided to be; `delivery` itself if nothing else was.

        Raises NoInstance, OSError: what was received is not sent instead, it may be what nobody is to see.
        """
        path = self._folder / delivery.path.name
        if path.name not in self._written_down:
            return delivery
        try:
            return read_delivery(path) if path.stat().st_size else None
        except FileNotFoundError as error:
            raise NoInstance("what the script made of it was taken out of the spool") from error
        except (Part10Error, StructureError) as error:
            raise NoInstance(f"what the script made of it cannot be read: {error}") from error

    def ended(self, path: Path, *, is_delivered: bool) -> None:
        """It has an outcome. What was delivered is asked for at the next start, and its change stays beside it."""
        may_be_changed = path.name in self._decided or path.name in self._written_down
        self._decided.pop(path.name, None)
        if may_be_changed and not is_delivered:
            self._written_down.discard(path.name)
            (self._folder / path.name).unlink(missing_ok=True)

    def _ask(self, script: ScriptClient, delivery: Delivery) -> Delivery | None:
        path = self._folder / delivery.path.name
        unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
        with delivery.path.open("rb") as instance, open(unfinished, "wb", opener=private_opener) as changed:
            try:
                action = _answer(script, instance.fileno(), changed.fileno())
                if action == "keep":
                    unfinished.unlink()
                    return delivery
                os.fsync(changed.fileno())
                made = None if action == "discard" else replace(read_delivery(unfinished), path=path)
                unfinished.rename(path)
            except (Part10Error, StructureError) as error:
                raise NoInstance(f"what the script returned is no DICOM instance: {error}") from error
            finally:
                with contextlib.suppress(FileNotFoundError):
                    unfinished.unlink()
        fsync_directory(self._folder)
        return made


def _answer(script: ScriptClient, instance: int, changed: int) -> str:
    """What the callback says of the file `instance`: keep, discard, or change; then `changed` is written.

    Raises Undecided, NoInstance.
    """
    try:
        with script.call(Kind.RECEIVED_INSTANCE) as call:
            answer = call.ask({}, fds=[instance, changed]).header
    except ScriptFailed as error:
        raise Undecided(f"script: {error}") from error
    if "no_instance" in answer:
        raise NoInstance(answer["no_instance"])
    return str(answer["action"])


def _is_to_be_asked(script: ScriptClient) -> bool:
    try:
        return script.has(Kind.RECEIVED_INSTANCE)
    except ScriptUnavailable as error:
        raise Unreachable(f"what is sent is for the script to say, and {error}") from error


def _clean_up(spool: Spool) -> set[str]:
    """Delete what belongs to no instance on its way, or that was delivered shortly before; the names of the rest."""
    names = {path.name for path in spool.changed.iterdir()}
    owners = {path.name for path in spool.incoming.glob(f"*/*{SUFFIX}")} if names else set()
    left = set()
    for name in names:
        if name in owners or (spool.ready / name).exists() or (spool.delivered / name).exists():
            left.add(name)
        else:
            (spool.changed / name).unlink()
    return left
