"""What of the plugin's API this module has not, and what to do instead: two tables, for scripts and for the docs."""

from typing import Final

# They do something in Orthanc only: here they are taken and ignored, with a line in the log, so that a file may hold
# callbacks of both sides (DicomGateway.OrthancScripts).
ONLY_IN_ORTHANC: Final[dict[str, str]] = {
    "ExtendOrthancExplorer": "extends Orthanc's web interface",
    "ExtendOrthancExplorer2": "extends Orthanc's web interface",
    "RegisterDictionaryTag": "changes Orthanc's dictionary",
    "RegisterErrorCode": "changes Orthanc's error codes",
    "RegisterIncomingHttpRequestFilter": "filters requests to Orthanc's HTTP server",
    "RegisterOnStoredInstanceCallback": "is called when Orthanc has stored an instance",
    "RegisterPrivateDictionaryTag": "changes Orthanc's dictionary",
    "RegisterRestCallback": "adds routes to Orthanc's HTTP server",
    "RegisterStorageArea": "replaces Orthanc's storage",
    "RegisterStorageArea3": "replaces Orthanc's storage",
    "SetDescription": "describes the plugin in Orthanc",
    "SetDescription2": "describes the plugin in Orthanc",
    "SetRootUri": "describes the plugin in Orthanc",
    "SetRootUri2": "describes the plugin in Orthanc",
}

# Likewise, where Orthanc's plugin runs the gateway: it sees what comes by other ways too.
CALLED_BY_ORTHANC: Final[dict[str, str]] = {
    "RegisterReceivedInstanceCallback": "is called before Orthanc stores an instance",
}

_DATABASE: Final = "a script in DicomGateway.OrthancScripts"
_IMAGES: Final = "a library for images, such as Pillow"
_CLIENT: Final = "a library for HTTP, such as requests"
_QUEUES: Final = "a script in DicomGateway.OrthancScripts, or the routes that it adds"

# They raise an exception that says this.
NOT_OFFERED: Final[dict[str, str]] = {
    "AcknowledgeQueueValue": _QUEUES,
    "AutodetectMimeType": "mimetypes.guess_type",
    "BufferCompression": "zlib and gzip",
    "CheckVersion": "RestApiGet('/system')",
    "CheckVersionAdvanced": "RestApiGet('/system')",
    "CompressJpegImage": _IMAGES,
    "CompressPngImage": _IMAGES,
    "CreateImage": _IMAGES,
    "CreateImageFromBuffer": _IMAGES,
    "CreateKeysValuesIterator": _QUEUES,
    "CreateMemoryBuffer": "bytes",
    "DeleteKeyValue": _QUEUES,
    "DequeueValue": _QUEUES,
    "EmitAuditLog": _DATABASE,
    "EnqueueValue": _QUEUES,
    "GetAttachmentCustomData": _DATABASE,
    "GetCommandLineArgument": "sys.argv has no such arguments; GetConfiguration",
    "GetCommandLineArgumentsCount": "sys.argv has no such arguments; GetConfiguration",
    "GetConfigurationPath": "GetConfiguration",
    "GetDatabaseServerIdentifier": "RestApiGet('/system')",
    "GetErrorDescription": "the text of the OrthancException",
    "GetExpectedDatabaseVersion": "RestApiGet('/system')",
    "GetFontName": _IMAGES,
    "GetFontSize": _IMAGES,
    "GetFontsCount": _IMAGES,
    "GetGlobalProperty": _DATABASE,
    "GetKeyValue": _QUEUES,
    "GetOrthancDirectory": "nothing: Orthanc may run elsewhere",
    "GetOrthancPath": "nothing: Orthanc may run elsewhere",
    "GetPeers": "RestApiGet('/peers?expand')",
    "GetQueueSize": _QUEUES,
    "HttpDelete": _CLIENT,
    "HttpGet": _CLIENT,
    "HttpPost": _CLIENT,
    "HttpPut": _CLIENT,
    "LoadDicomInstance": "GetDicomForInstance and CreateDicomInstance",
    "ReadFile": "open",
    "ReserveQueueValue": _QUEUES,
    "SetAttachmentCustomData": _DATABASE,
    "SetCurrentThreadName": "threading.current_thread().name",
    "SetGlobalProperty": _DATABASE,
    "SetMetricsIntegerValue": _DATABASE,
    "SetMetricsValue": _DATABASE,
    "SetStableStatus": _DATABASE,
    "StoreKeyValue": _QUEUES,
    "TranscodeDicomInstance": "RestApiPost('/instances/{id}/modify', ...) with Transcode",
    "UncompressImage": _IMAGES,
    "WriteFile": "open",
}
