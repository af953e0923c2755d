"""The archives of one process, from the configuration."""

from gateway.archive.barrier import QueryBarrier
from gateway.archive.dicomweb import DicomWebArchive
from gateway.archive.index.query_index import QueryIndex
from gateway.archive.interface import Archive, Archives
from gateway.archive.kept_answers import KeptAnswers
from gateway.archive.nothing import NoArchive
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.archive.unchanged import Files, database_files
from gateway.child import Settings
from gateway.deliveries import DeliveryClient
from gateway.dicomweb.client import DicomWebClient
from gateway.forwarding.endpoint import endpoint
from gateway.options.config import Configuration


def orthanc_archive(settings: Settings, configuration: Configuration, deliveries: DeliveryClient) -> OrthancArchive:
    """The archive of one worker. All workers together take a third of Orthanc's HTTP threads at most."""
    options = configuration.orthanc
    connections = max(1, options.http_threads_count // 3 // configuration.workers)
    rest = OrthancRest(endpoint(settings, configuration), connections)
    index = kept = None
    if configuration.gateway.query_index:
        # Orthanc elsewhere may be started anew, with another database, and nobody tells us.
        ends_with_orthanc = settings.in_orthanc and configuration.gateway.orthanc is None
        index = QueryIndex(rest, configuration.state_directory, ends_with_orthanc=ends_with_orthanc)
        index.start()
        if ends_with_orthanc and settings.orthanc_pid is not None and (files := database_files(settings.orthanc_pid)):
            # candidates are the index's, which may be filled anew while Orthanc does not change
            kept = KeptAnswers(Files((*files, *index.paths)).state)
    return OrthancArchive(
        rest,
        Options(
            retrieve_ae_title=options.dicom_aet,
            case_sensitive_pn=options.case_sensitive_pn,
            storage_access=options.storage_access_on_find,
        ),
        QueryBarrier(deliveries, configuration.gateway.query_barrier_timeout),
        index,
        kept,
    )


def dicomweb_clients(configuration: Configuration) -> dict[str, DicomWebClient]:
    """A client for each server, by called AE title. Raises ConfigurationError for files that cannot be used."""
    servers = configuration.dicom_web_servers.items()
    return {title: DicomWebClient(title, section, configuration.path) for title, section in servers}


def archives(settings: Settings, configuration: Configuration, deliveries: DeliveryClient) -> Archives:
    """Orthanc, if there is one, and the DICOMweb servers. Raises ConfigurationError."""
    default: Archive = NoArchive()
    if configuration.has_orthanc:
        default = orthanc_archive(settings, configuration, deliveries)
    servers = {
        title: DicomWebArchive(
            client,
            QueryBarrier(deliveries, configuration.gateway.query_barrier_timeout, title),
            case_sensitive_pn=configuration.orthanc.case_sensitive_pn,
        )
        for title, client in dicomweb_clients(configuration).items()
    }
    return Archives(default, servers, configuration.title_key)
