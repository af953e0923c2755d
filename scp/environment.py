"""What the associations of one process share: options, services, permissions, pynetdicom's settings."""

from __future__ import annotations

from typing import Final

import pydicom.config
from pydicom.uid import UID
from pynetdicom import AE, _config

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.access.admission import Admission, Verb, offered
from gateway.access.called_titles import CalledTitles
from gateway.access.certificate_names import SubjectBinding
from gateway.access.users import Users
from gateway.archive.interface import Archives
from gateway.log import get_logger
from gateway.modalities import KnownModalities, Modalities
from gateway.moves.archive_drivers import archive_drivers
from gateway.moves.interface import MoveDrivers
from gateway.options.config import Configuration
from gateway.repeated_lines import RepeatedLines
from gateway.script_host.client import ScriptClient
from gateway.script_host.kinds import Kind
from gateway.tls.context import TlsContexts, files_of
from scp.contexts import ContextPolicy
from scp.service_table import service_table
from scp.services import Services
from scp.storage import StorageService

# ARTIM (PS3.8 9.1.5): from the connection to the whole A-ASSOCIATE-RQ. The built-in SCP's is 30 s too.
ACSE_TIMEOUT_S: Final = 30.0
# Lines of one kind in an interval (gateway.repeated_lines). A scanner tries some dozens of protocols.
STRANGERS_LINES: Final = 50


def configure_pynetdicom() -> None:
    """Process-wide settings of pynetdicom: no formatting of logs nobody reads, no refusal by exceptions.

    What is no AE title or UID is for scp and gateway.access.admission to answer, not a reason to drop the connection.
    """
    # UIDs only have to be equal here: pydicom would match each against a regular expression and warn of what is none.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.VALIDATORS["AE"] = lambda value: (True, "")
    _config.VALIDATORS["UI"] = lambda value: (True, "")
    _config.CODECS = ("ascii", "latin-1")


class Environment:
    """What the associations of one worker share."""

    def __init__(
        self,
        configuration: Configuration,
        storage: StorageService,
        archives: Archives,
        drivers: MoveDrivers | None = None,
        script: ScriptClient | None = None,
    ) -> None:
        """`drivers` None: what is moved comes from `archives`. `script`: whom to ask before either."""
        self.configuration = configuration
        # Of connections that come to no association: anybody can make as many as they like.
        self.lines = RepeatedLines(get_logger(), lines_per_interval=STRANGERS_LINES)
        self.storage = storage
        self._modalities = KnownModalities(configuration)
        drivers = drivers or archive_drivers(archives)
        self.services = Services(service_table(configuration, archives, self._modalities, drivers, script))
        self._script = script
        self._admission = self._admission_of(self._modalities.current())
        self.subjects = SubjectBinding(configuration)
        self.users = Users(configuration.gateway.users)
        self.tls: TlsContexts | None = None
        if configuration.orthanc.dicom_tls_enabled:
            self.tls = TlsContexts(files_of(configuration), configuration.orthanc.tls_policy(), get_logger())
        self._contexts = self._context_policy(offered(configuration))
        # A script may answer queries of the worklist where there is no other.
        self._contexts_with_worklist = self._context_policy(offered(configuration) | {Verb.FIND_WORKLIST})
        self.idle_timeout: float | None = configuration.orthanc.dicom_scp_timeout or None
        self.ae = AE(ae_title=configuration.orthanc.dicom_aet)
        self.ae.acse_timeout = ACSE_TIMEOUT_S
        self.ae.network_timeout = self.idle_timeout
        self.ae.maximum_associations = 1_000_000  # limits are the supervisor's
        self.ae.maximum_pdu_size = configuration.orthanc.maximum_pdu_length
        self.ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self.ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    def _context_policy(self, services: frozenset[Verb]) -> ContextPolicy:
        return ContextPolicy(
            self.configuration.transfer_syntaxes,
            unknown_sop_class_accepted=self.configuration.orthanc.unknown_sop_class_accepted,
            offered=services,
        )

    @property
    def contexts(self) -> ContextPolicy:
        """What may be offered now."""
        if self._script is not None and self._script.may_have(Kind.WORKLIST):
            return self._contexts_with_worklist
        return self._contexts

    def admission(self) -> CalledTitles:
        """Return the permissions as they are now, for the whole life of an association that begins."""
        modalities, admission = self._modalities.current(), self._admission
        if admission.modalities is not modalities:
            admission = self._admission = self._admission_of(modalities)
        return admission

    def _admission_of(self, modalities: Modalities) -> CalledTitles:
        return CalledTitles(self.configuration, Admission(self.configuration.orthanc, modalities))
