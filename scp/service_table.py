"""Every service that answers requests on accepted presentation contexts, besides C-STORE and C-ECHO: one table."""

from gateway.archive.interface import Archives
from gateway.config import Configuration
from scp.command_set import C_FIND_RQ
from scp.find import FindService
from scp.services import Begin

_PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def service_table(configuration: Configuration, archives: Archives) -> dict[tuple[str, int], Begin]:
    """What begins an operation, by abstract syntax and Command Field."""
    find = FindService(configuration, archives)
    return {
        (_PATIENT_ROOT_FIND, C_FIND_RQ): find.operation,
        (_STUDY_ROOT_FIND, C_FIND_RQ): find.operation,
    }
