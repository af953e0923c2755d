"""Every service that answers requests on accepted presentation contexts, besides C-STORE and C-ECHO: one table."""

from gateway.archive.interface import Archives
from gateway.modalities import KnownModalities
from gateway.moves.interface import MoveDrivers
from gateway.moves.script_driver import ScriptedMoveDrivers
from gateway.options.config import Configuration
from gateway.script_host.client import ScriptClient
from gateway.script_host.kinds import Kind
from scp.command_set import (
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_SET_RQ,
)
from scp.find import FindService
from scp.get import GetService
from scp.move import MoveService
from scp.normalized import normalized
from scp.script_find import begin_scripted, no_worklist
from scp.services import Begin

_PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1"
_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
_MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
_STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"


def service_table(
    configuration: Configuration,
    archives: Archives,
    modalities: KnownModalities,
    drivers: MoveDrivers,
    script: ScriptClient | None = None,
) -> dict[tuple[str, int], Begin]:
    """What begins an operation, by abstract syntax and Command Field."""
    find = FindService(configuration, archives)
    moves = drivers if script is None else ScriptedMoveDrivers(script, drivers)
    move = MoveService(configuration, modalities, moves)
    get = GetService(configuration, drivers)
    begin_find: Begin = find.operation
    if script is not None:
        begin_find = begin_scripted(script, Kind.FIND, find.answers)
    table: dict[tuple[str, int], Begin] = {
        (f"{_PATIENT_ROOT}.1", C_FIND_RQ): begin_find,
        (f"{_STUDY_ROOT}.1", C_FIND_RQ): begin_find,
        (f"{_PATIENT_ROOT}.2", C_MOVE_RQ): move.operation,
        (f"{_STUDY_ROOT}.2", C_MOVE_RQ): move.operation,
        (f"{_PATIENT_ROOT}.3", C_GET_RQ): get.operation,
        (f"{_STUDY_ROOT}.3", C_GET_RQ): get.operation,
    }
    if configuration.worklist is not None:
        table |= _worklist(configuration, script)
    elif script is not None:
        table[_MODALITY_WORKLIST_FIND, C_FIND_RQ] = begin_scripted(script, Kind.WORKLIST, no_worklist)
    if configuration.storage_commitment is not None:
        table |= _storage_commitment(configuration)
    return table


def _worklist(configuration: Configuration, script: ScriptClient | None) -> dict[tuple[str, int], Begin]:
    # Imported here: who has no worklist does not pay for its database with time and memory.
    from gateway.database import connect
    from scp.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, MppsService
    from scp.worklist_find import WorklistFindService
    from worklist.performed.shown import ShownLog

    database = connect(configuration)
    find = WorklistFindService(configuration, database, ShownLog(database))
    mpps = MppsService(configuration, database)
    begin_find: Begin = find.operation
    if script is not None:
        begin_find = begin_scripted(script, Kind.WORKLIST, find.answers)
    return {
        (_MODALITY_WORKLIST_FIND, C_FIND_RQ): begin_find,
        (MODALITY_PERFORMED_PROCEDURE_STEP, N_CREATE_RQ): normalized(mpps.create),
        (MODALITY_PERFORMED_PROCEDURE_STEP, N_SET_RQ): normalized(mpps.set),
    }


def _storage_commitment(configuration: Configuration) -> dict[tuple[str, int], Begin]:
    # Imported here: who has no storage commitment does not pay for its database with time and memory.
    from gateway.database import connect
    from gateway.quotas.identity import gateway_identity
    from scp.storage_commitment import CommitmentService

    service = CommitmentService(configuration, connect(configuration), gateway_identity(configuration.state_directory))
    return {
        (_STORAGE_COMMITMENT, N_ACTION_RQ): normalized(service.n_action),
        (_STORAGE_COMMITMENT, N_EVENT_REPORT_RQ): normalized(service.n_event_report),
    }
