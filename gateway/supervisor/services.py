"""Which processes a gateway has: the list, by its configuration."""

from gateway.child import Settings
from gateway.options.config import Configuration
from gateway.supervisor.process import Process


def workers(configuration: Configuration) -> list[Process]:
    """The processes that serve associations."""
    return [Process(f"scp worker {number}", "scp.worker") for number in range(1, configuration.workers + 1)]


def services(settings: Settings, configuration: Configuration, hl7_port: int | None) -> list[Process]:
    """All others, in the order in which they start; they stop in the opposite one. `hl7_port` is a descriptor."""
    made = []
    if configuration.gateway.quotas.counts:
        made.append(Process("quotas", "gateway.quotas", _given(settings.changes_fd)))
    if configuration.script is not None:
        # Before the forwarder, and ended after it: the forwarder asks it.
        made.append(Process("script", "gateway.script_host", _given(settings.events_fd)))
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


def _given(fd: int | None) -> tuple[int, ...]:
    """What the glue has given for it: nothing without the plugin."""
    return () if fd is None else (fd,)
