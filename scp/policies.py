"""What is asked about an arriving instance: one list, from top to bottom.

Each policy (scp.policy) is asked twice: about the command, before any data set is read, and about the data set once it
is complete in its file. The first that answers refuses the instance; what is refused on the command is drained without
being written. What nobody refuses goes into the spool (scp.storage).
"""

from gateway.dicom.structure import Limits
from gateway.options.config import Configuration
from gateway.script_host.client import ScriptClient
from scp.checks import CommandIsValid, HeaderMatchesCommand, StructureIsSound
from scp.policy import Policy
from scp.quotas import EnoughFreeSpace, QuotaOfInstance, QuotaOnCommand, Quotas
from scp.script_filter import ScriptFilter


def policies(
    configuration: Configuration, quotas: Quotas | None, script: ScriptClient | None = None
) -> tuple[Policy, ...]:
    """The policies of this configuration, in their order."""
    section = configuration.gateway
    free_space = section.quotas.minimum_free_space
    in_order: list[Policy | None] = [
        CommandIsValid(),
        EnoughFreeSpace(configuration.state_directory, free_space) if free_space is not None else None,
        QuotaOnCommand(quotas) if quotas is not None else None,
        StructureIsSound(Limits(maximum_inflated_bytes=section.maximum_inflated_bytes)),
        HeaderMatchesCommand(),
        QuotaOfInstance(quotas) if quotas is not None else None,
        # Last: what it accepts is stored, so that a script can count.
        ScriptFilter(script) if script is not None else None,
        _tell_worklist(configuration),
    ]
    return tuple(policy for policy in in_order if policy is not None)


def _tell_worklist(configuration: Configuration) -> Policy | None:
    if configuration.worklist is None or not configuration.worklist.start_on_first_instance:
        return None
    # Imported here: who does not want it does not pay for it.
    from scp.arrivals import TellWorklist
    from worklist.performed.announcements import Announcer

    return TellWorklist(Announcer(configuration.state_directory))
