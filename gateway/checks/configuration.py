"""What `dicom-gateway check` says: what a configuration means, what in it has no effect, whether Orthanc answers."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.access.admission import OFFERED, Admission, Verb, is_address, offered
from gateway.access.called_titles import CalledTitles
from gateway.checks.dicomweb_servers import describe_servers
from gateway.checks.hl7 import describe_hl7
from gateway.checks.lines import Line, describe_certificates
from gateway.checks.requirements import FatalError, check_requirements
from gateway.checks.script import describe_script
from gateway.checks.scripts_in_orthanc import describe_orthanc_scripts
from gateway.child import Settings
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.transports import HttpTransport, Unreachable
from gateway.modalities import configured_modalities
from gateway.options.config import Configuration, names_the_glue
from gateway.options.mistakes import similar_option
from gateway.options.orthanc import Modality, OrthancOptions
from gateway.quotas.options import QuotaRule
from gateway.spool import ORTHANC, Spool, SpoolError, check_private, destination_of
from gateway.tls.client import client_context
from gateway.tls.context import TlsError, files_of

# Options of Orthanc that configure its DICOM server and say nothing to this gateway, and why.
WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "DicomThreadsCount": "every association has a thread of its own",
    "AcceptedSopClasses": "all storage SOP classes are accepted",
    "RejectedSopClasses": "all storage SOP classes are accepted",
}

# The file of Orthanc's Python plugin, without what follows it.
PYTHON_PLUGIN: Final = "libOrthancPython"

# RetrieveMethod came with Orthanc 1.12.6.
_MODALITY_KEYS: Final = {"RetrieveMethod"} | {field.alias for field in Modality.model_fields.values()}


def describe(settings: Settings, configuration: Configuration) -> Iterator[Line]:
    """Yield what the gateway would do, without binding a port or changing anything."""
    options, section = configuration.orthanc, configuration.gateway
    yield Line(f"AE title {options.dicom_aet}, DICOM port {options.dicom_port} on {section.bind_address}")
    yield Line(f"connections are accepted from {', '.join(section.allowed_hosts or ['everybody'])}")
    per_peer = section.maximum_associations_per_peer or section.maximum_associations
    yield Line(f"at most {section.maximum_associations} associations at the same time, {per_peer} of one address")
    called = f"only to {options.dicom_aet}" if options.dicom_check_called_aet else "under any called AE title"
    yield Line(f"associations are accepted {called}")
    # No AE title is empty: this is what a stranger may do.
    always = CalledTitles(configuration, Admission(options, {})).permitted("", options.dicom_aet, "")
    verbs = [_verb(verb, configuration) for verb in Verb if verb in always]
    yield Line(f"unknown AE titles may do: {', '.join(verbs) or 'nothing'}")
    yield from _modalities(settings, configuration)
    yield from _describe_tls(configuration)
    yield from _describe_users(configuration)
    yield from describe_hl7(configuration)
    yield from describe_orthanc_scripts(configuration)
    yield Line(f"{len(configuration.transfer_syntaxes)} transfer syntaxes accepted, {configuration.workers} workers")
    yield Line(f"state directory {configuration.state_directory}")
    refusal = _refusal_of_state_directory(configuration.state_directory)
    yield from [Line(refusal, ok=False)] if refusal else _look_into_spool(configuration)
    if names_the_glue(settings.content):
        yield from _inside_orthanc(settings, configuration)
    try:
        check_requirements(settings, configuration)
    except FatalError as error:
        yield Line(str(error), ok=False)
    yield from (Line(f"{name}: has no effect here: {why}") for name, why in without_effect(settings.content))
    yield from _misspelled(settings.content)
    yield from _quotas(configuration)
    yield from _worklist(configuration)
    yield from _storage_commitment(configuration)
    yield from describe_script(settings, configuration)
    yield from describe_servers(settings.content, configuration)
    if configuration.has_orthanc:
        yield _reach_orthanc(settings, configuration)
    else:
        services = "C-ECHO" if configuration.worklist is None else "C-ECHO, worklist queries and MPPS"
        yield Line(f"there is no Orthanc: {configuration.orthanc.dicom_aet} answers {services} only")


def without_effect(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The options in `content` that have no effect on the gateway, with the reason."""
    return [(name, WITHOUT_EFFECT[name]) for name in content if name in WITHOUT_EFFECT]


def _misspelled(content: Mapping[str, Any]) -> Iterator[Line]:
    """Orthanc takes whatever stands in its file: what it does not know says nothing, without a word."""
    known = [str(field.alias) for field in OrthancOptions.model_fields.values()]
    for name in content:
        meant = None if name in known or name in WITHOUT_EFFECT else similar_option(name, known)
        if meant and name.startswith("Dicom"):
            yield Line(f"{name}: has no effect here, is {meant} meant?")


def _inside_orthanc(settings: Settings, configuration: Configuration) -> Iterator[Line]:
    """What of Orthanc must be so that it starts the gateway."""
    if configuration.orthanc.dicom_server_enabled:
        yield Line('"DicomServerEnabled" is not false: set it, or the gateway does not start inside Orthanc', ok=False)
    named = settings.content.get("Plugins")
    paths = [configuration.path(path) for path in named] if isinstance(named, list) else []
    files = [file for path in paths for file in (path, *path.glob(f"{PYTHON_PLUGIN}*"))]
    if not any(file.name.startswith(PYTHON_PLUGIN) and os.access(file, os.R_OK) for file in files):
        yield Line(
            f"Plugins: {PYTHON_PLUGIN}.so is not there, without which Orthanc does not run PythonScript: "
            "install orthanc-python, and name it",
            ok=False,
        )


def _storage_commitment(configuration: Configuration) -> Iterator[Line]:
    section = configuration.storage_commitment
    if section is None:
        return
    verified = []
    if configuration.has_orthanc:
        verified.append("files are read" if section.verify == "File" else "Orthanc's index is believed")
    if configuration.dicom_web_servers:
        verified.append("DICOMweb servers are searched")
    yield Line(f"storage commitment: on, {', '.join(verified)}")


def _worklist(configuration: Configuration) -> Iterator[Line]:
    if configuration.worklist is None:
        return
    folders = configuration.worklist_folders
    files = f"files of {', '.join(str(folder.path) for folder in folders)}" if folders else "no folder of files"
    yield Line(f"worklist: on, {files}")
    for folder in folders:
        if not os.access(folder.path, os.R_OK | os.X_OK):
            yield Line(f"worklist: {folder.path} is not there, or cannot be read by this user")
    orthanc = configuration.orthanc.worklists
    if orthanc.enable and orthanc.save_in_orthanc_database:
        yield Line("Worklists.SaveInOrthancDatabase: what Orthanc keeps there is not served")


def _verb(verb: Verb, configuration: Configuration) -> str:
    name = {Verb.FIND_WORKLIST: "worklist queries"}.get(verb, f"C-{verb.name}")
    if verb in OFFERED - offered(configuration):
        return f"{name} (nothing fills a worklist)"
    return name


def _modalities(settings: Settings, configuration: Configuration) -> Iterator[Line]:
    """Which list counts, and what in the file's entries does not mean what it seems to."""
    interval_s = configuration.gateway.modalities_refresh if configuration.refreshes_modalities else 0
    modalities = configured_modalities(configuration)
    until = f"; until it answers (on its own: besides them) the {len(modalities)} in this file" if modalities else ""
    if interval_s:
        yield Line(f"modalities are those of Orthanc, asked for every {interval_s:g} s{until}")
    else:
        yield Line(f"modalities are the {len(modalities)} in this file")
    for name, modality in modalities.items():
        if configuration.orthanc.dicom_check_modality_host and not is_address(modality.host):
            yield Line(f"DicomModalities.{name}: Host is no address: DicomCheckModalityHost refuses this modality")
        if modality.use_dicom_tls:
            try:
                client_context(configuration)
            except TlsError as error:
                yield Line(f"DicomModalities.{name}: cannot be called over TLS: {error}")
        entry = settings.content["DicomModalities"][name]
        unknown = [key for key in entry if key not in _MODALITY_KEYS] if isinstance(entry, dict) else []
        yield from (Line(f"DicomModalities.{name}.{key}: Orthanc has no such option") for key in unknown)


def _describe_tls(configuration: Configuration) -> Iterator[Line]:
    options = configuration.orthanc
    if not options.dicom_tls_enabled:
        return
    version = options.tls_policy().minimum_version.name.replace("v", " ").replace("_", ".")
    asked = "must have a certificate" if options.dicom_tls_remote_certificate_required else "are not asked for one"
    yield Line(f"TLS on the DICOM port, from {version} on; peers {asked}")
    yield from describe_certificates(files_of(configuration))


def _describe_users(configuration: Configuration) -> Iterator[Line]:
    users = configuration.gateway.users
    if users is not None:
        others = "refused" if users.required else "accepted"
        yield Line(f"{len(users.accepted)} users may associate; peers without user identity are {others}")


def _refusal_of_state_directory(path: Path) -> str | None:
    """Why a start would end here, None if it would not."""
    try:
        if path.exists():
            status = path.stat()
            # Root may look at what another user will run.
            check_private(path, status, os.geteuid() or status.st_uid)
        elif not os.access(next(folder for folder in path.parents if folder.exists()), os.W_OK | os.X_OK):
            return f"{path}: is not there, and this user may not make it"
    except SpoolError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}: run this as the user of the gateway"
    return None


def _look_into_spool(configuration: Configuration) -> Iterator[Line]:
    spool = Spool(configuration.state_directory)
    try:
        if not spool.ready.is_dir():
            return
        waiting = Counter(destination_of(name) for name in spool.names(spool.ready))
        if configuration.has_orthanc:
            yield Line(f"{waiting.pop(ORTHANC, 0)} instances wait there for Orthanc")
        for destination, count in sorted(waiting.items()):
            lost = "" if configuration.server_title(destination) else ", which is not configured any more"
            yield Line(f"{count} instances wait there for {destination or 'Orthanc'}{lost}", ok=not lost)
    except OSError as error:
        yield Line(f"{spool.ready}: {error.strerror}: run this as the user of the gateway", ok=False)


def _quotas(configuration: Configuration) -> Iterator[Line]:
    section = configuration.gateway.quotas
    for rule in section.rules:
        whom = ", ".join(
            f"{name} {pattern}"
            for name, pattern in (("from", rule.calling_aet), ("to", rule.called_aet), ("at", rule.host))
            if pattern != "*"
        )
        yield Line(f"quota {rule.title}: {whom or 'everybody'}: {', '.join(_limits(rule))}")
    if configuration.dicom_web_servers and any(rule.window is None for rule in section.rules):
        yield Line("without Window, what goes to a DICOMweb server counts until the server has it")
    for limit, value in section.model_dump(by_alias=True, exclude={"rules"}, exclude_none=True).items():
        yield Line(f"quota {limit}: {value}")
    if configuration.needs_database or configuration.gateway.database is not None:
        yield _reach_database(configuration)


def _limits(rule: QuotaRule) -> Iterator[str]:
    window = f" in {rule.window} s" if rule.window is not None else ""
    for name, value in rule.model_dump(by_alias=True, exclude_none=True).items():
        if name.startswith("Maximum"):
            yield f"{name} {value}{window if name != 'MaximumBytesPerInstance' else ''}"


def _reach_database(configuration: Configuration) -> Line:
    # Imported here: without quotas nothing needs it.
    from gateway import database

    if configuration.gateway.database is None:
        return Line(f"database {configuration.state_directory / database.SQLITE_NAME}")
    try:
        database.check_reachable(database.connect(configuration))
    except database.DatabaseError as error:
        return Line(f"the database does not answer: {error}", ok=False)
    return Line("the database answers")


def _reach_orthanc(settings: Settings, configuration: Configuration) -> Line:
    where = endpoint(settings, configuration)
    try:
        reply = HttpTransport(where).get("/system")
    except Unreachable as error:
        return Line(f"Orthanc at {where.url} does not answer: {error}", ok=False)
    if reply.http_status == 401 and names_the_glue(settings.content) and configuration.gateway.orthanc is None:
        return Line(f"Orthanc at {where.url} answers and asks for a password; inside Orthanc the gateway needs none")
    if reply.http_status != 200:
        return Line(f"Orthanc at {where.url} answers HTTP {reply.http_status} to GET /system", ok=False)
    return Line(f"Orthanc at {where.url} answers; {configuration.connections} connections will be used")
