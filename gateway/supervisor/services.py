"""Which processes a gateway has: the list, by its configuration."""

from typing import Final

from gateway.child import Settings
from gateway.options.config import Configuration
from gateway.script_host.kinds import Kind
from gateway.supervisor.process import PING_TIMEOUT_S, Process

# Its only thread waits for the database too: to connect, for others that write, several times.
KEEPER_PING_TIMEOUT_S: Final = 120.0


def workers(configuration: Configuration) -> list[Process]:
    """The processes that serve associations."""
    return [Process(f"scp worker {number}", "scp.worker") for number in range(1, configuration.workers + 1)]


def services(settings: Settings, configuration: Configuration, hl7_port: int | None) -> list[Process]:
    """All others, in the order in which they start; they stop in the opposite one. `hl7_port` is a descriptor."""
    made = []
    if configuration.gateway.quotas.counts:
        quotas = Process("quotas", "gateway.quotas", _given(settings.changes_fd), ping_timeout_s=KEEPER_PING_TIMEOUT_S)
        made.append(quotas)
    if configuration.script is not None:
        # Before the forwarder, and ended after it: the forwarder asks it.
        made.append(_script(settings, configuration))
    made.append(Process("forwarder", "gateway.forwarding", _given(settings.post_fd)))
    if configuration.worklist is not None:
        made.append(Process("worklist", "worklist", _given(settings.studies_fd)))
    if configuration.storage_commitment is not None:
        made.append(Process("storage commitment", "scp.commitment_reporter"))
    if hl7_port is not None:
        made.append(Process("hl7", "worklist.hl7", (hl7_port,), (str(hl7_port),), stops_first=True))
    if configuration.gateway.hl7 is not None and configuration.gateway.hl7.receivers:
        made.append(Process("hl7 sender", "worklist.feedback"))
    return made


def _script(settings: Settings, configuration: Configuration) -> Process:
    """A library that a callback uses may let no other thread run for as long as the callback may take."""
    options = configuration.gateway.script_options
    longest_s = max(options.load_timeout, *(kind.limit_s(options) for kind in Kind))
    given, timeout_s = _given(settings.events_fd), longest_s + PING_TIMEOUT_S
    return Process("script", "gateway.script_host", given, ping_timeout_s=timeout_s)


def _given(fd: int | None) -> tuple[int, ...]:
    """What the glue has given for it: nothing without the plugin."""
    return () if fd is None else (fd,)
