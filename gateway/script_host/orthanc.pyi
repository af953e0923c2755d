"""Types of the module `orthanc` as dicom-gateway offers it to scripts, for editors and type checkers.

Functions that only Orthanc has are here, because a file may be for both; those that are not offered are not.
"""

from collections.abc import Callable
from typing import Any

class ChangeType:
    COMPLETED_SERIES: int
    DELETED: int
    NEW_CHILD_INSTANCE: int
    NEW_INSTANCE: int
    NEW_PATIENT: int
    NEW_SERIES: int
    NEW_STUDY: int
    STABLE_PATIENT: int
    STABLE_SERIES: int
    STABLE_STUDY: int
    ORTHANC_STARTED: int
    ORTHANC_STOPPED: int
    UPDATED_ATTACHMENT: int
    UPDATED_METADATA: int
    UPDATED_PEERS: int
    UPDATED_MODALITIES: int
    JOB_SUBMITTED: int
    JOB_SUCCESS: int
    JOB_FAILURE: int

class CompressionType:
    ZLIB: int
    ZLIB_WITH_SIZE: int
    GZIP: int
    GZIP_WITH_SIZE: int
    NONE: int

class ConstraintType:
    EQUAL: int
    SMALLER_OR_EQUAL: int
    GREATER_OR_EQUAL: int
    WILDCARD: int
    LIST: int

class ContentType:
    UNKNOWN: int
    DICOM: int
    DICOM_AS_JSON: int
    DICOM_UNTIL_PIXEL_DATA: int

class CreateDicomFlags:
    NONE: int
    DECODE_DATA_URI_SCHEME: int
    GENERATE_IDENTIFIERS: int

class DicomToJsonFlags:
    NONE: int
    INCLUDE_BINARY: int
    INCLUDE_PRIVATE_TAGS: int
    INCLUDE_UNKNOWN_TAGS: int
    INCLUDE_PIXEL_DATA: int
    CONVERT_BINARY_TO_ASCII: int
    CONVERT_BINARY_TO_NULL: int
    STOP_AFTER_PIXEL_DATA: int
    SKIP_GROUP_LENGTHS: int

class DicomToJsonFormat:
    FULL: int
    SHORT: int
    HUMAN: int

class DicomWebBinaryMode:
    IGNORE: int
    INLINE_BINARY: int
    BULK_DATA_URI: int

class ErrorCode:
    INTERNAL_ERROR: int
    SUCCESS: int
    PLUGIN: int
    NOT_IMPLEMENTED: int
    PARAMETER_OUT_OF_RANGE: int
    NOT_ENOUGH_MEMORY: int
    BAD_PARAMETER_TYPE: int
    BAD_SEQUENCE_OF_CALLS: int
    INEXISTENT_ITEM: int
    BAD_REQUEST: int
    NETWORK_PROTOCOL: int
    SYSTEM_COMMAND: int
    DATABASE: int
    URI_SYNTAX: int
    INEXISTENT_FILE: int
    CANNOT_WRITE_FILE: int
    BAD_FILE_FORMAT: int
    TIMEOUT: int
    UNKNOWN_RESOURCE: int
    INCOMPATIBLE_DATABASE_VERSION: int
    FULL_STORAGE: int
    CORRUPTED_FILE: int
    INEXISTENT_TAG: int
    READ_ONLY: int
    INCOMPATIBLE_IMAGE_FORMAT: int
    INCOMPATIBLE_IMAGE_SIZE: int
    SHARED_LIBRARY: int
    UNKNOWN_PLUGIN_SERVICE: int
    UNKNOWN_DICOM_TAG: int
    BAD_JSON: int
    UNAUTHORIZED: int
    BAD_FONT: int
    DATABASE_PLUGIN: int
    STORAGE_AREA_PLUGIN: int
    EMPTY_REQUEST: int
    NOT_ACCEPTABLE: int
    NULL_POINTER: int
    DATABASE_UNAVAILABLE: int
    CANCELED_JOB: int
    BAD_GEOMETRY: int
    SSL_INITIALIZATION: int
    DISCONTINUED_ABI: int
    BAD_RANGE: int
    DATABASE_CANNOT_SERIALIZE: int
    REVISION: int
    MAIN_DICOM_TAGS_MULTIPLY_DEFINED: int
    FORBIDDEN_ACCESS: int
    DUPLICATE_RESOURCE: int
    INCOMPATIBLE_CONFIGURATIONS: int
    SQLITE_NOT_OPENED: int
    SQLITE_ALREADY_OPENED: int
    SQLITE_CANNOT_OPEN: int
    SQLITE_STATEMENT_ALREADY_USED: int
    SQLITE_EXECUTE: int
    SQLITE_ROLLBACK_WITHOUT_TRANSACTION: int
    SQLITE_COMMIT_WITHOUT_TRANSACTION: int
    SQLITE_REGISTER_FUNCTION: int
    SQLITE_FLUSH: int
    SQLITE_CANNOT_RUN: int
    SQLITE_CANNOT_STEP: int
    SQLITE_BIND_OUT_OF_RANGE: int
    SQLITE_PREPARE_STATEMENT: int
    SQLITE_TRANSACTION_ALREADY_STARTED: int
    SQLITE_TRANSACTION_COMMIT: int
    SQLITE_TRANSACTION_BEGIN: int
    DIRECTORY_OVER_FILE: int
    FILE_STORAGE_CANNOT_WRITE: int
    DIRECTORY_EXPECTED: int
    HTTP_PORT_IN_USE: int
    DICOM_PORT_IN_USE: int
    BAD_HTTP_STATUS_IN_REST: int
    REGULAR_FILE_EXPECTED: int
    PATH_TO_EXECUTABLE: int
    MAKE_DIRECTORY: int
    BAD_APPLICATION_ENTITY_TITLE: int
    NO_CFIND_HANDLER: int
    NO_CMOVE_HANDLER: int
    NO_CSTORE_HANDLER: int
    NO_APPLICATION_ENTITY_FILTER: int
    NO_SOP_CLASS_OR_INSTANCE: int
    NO_PRESENTATION_CONTEXT: int
    DICOM_FIND_UNAVAILABLE: int
    DICOM_MOVE_UNAVAILABLE: int
    CANNOT_STORE_INSTANCE: int
    CREATE_DICOM_NOT_STRING: int
    CREATE_DICOM_OVERRIDE_TAG: int
    CREATE_DICOM_USE_CONTENT: int
    CREATE_DICOM_NO_PAYLOAD: int
    CREATE_DICOM_USE_DATA_URI_SCHEME: int
    CREATE_DICOM_BAD_PARENT: int
    CREATE_DICOM_PARENT_IS_INSTANCE: int
    CREATE_DICOM_PARENT_ENCODING: int
    UNKNOWN_MODALITY: int
    BAD_JOB_ORDERING: int
    JSON_TO_LUA_TABLE: int
    CANNOT_CREATE_LUA: int
    CANNOT_EXECUTE_LUA: int
    LUA_ALREADY_EXECUTED: int
    LUA_BAD_OUTPUT: int
    NOT_LUA_PREDICATE: int
    LUA_RETURNS_NO_STRING: int
    STORAGE_AREA_ALREADY_REGISTERED: int
    DATABASE_BACKEND_ALREADY_REGISTERED: int
    DATABASE_NOT_INITIALIZED: int
    SSL_DISABLED: int
    CANNOT_ORDER_SLICES: int
    NO_WORKLIST_HANDLER: int
    ALREADY_EXISTING_TAG: int
    NO_STORAGE_COMMITMENT_HANDLER: int
    NO_CGET_HANDLER: int
    DICOM_GET_UNAVAILABLE: int
    UNSUPPORTED_MEDIA_TYPE: int

class HttpAuthenticationStatus:
    GRANTED: int
    UNAUTHORIZED: int
    FORBIDDEN: int
    REDIRECT: int

class HttpMethod:
    GET: int
    POST: int
    PUT: int
    DELETE: int

class IdentifierConstraint:
    EQUAL: int
    SMALLER_OR_EQUAL: int
    GREATER_OR_EQUAL: int
    WILDCARD: int

class ImageFormat:
    PNG: int
    JPEG: int
    DICOM: int

class InstanceOrigin:
    UNKNOWN: int
    DICOM_PROTOCOL: int
    REST_API: int
    PLUGIN: int
    LUA: int
    WEB_DAV: int

class JobStepStatus:
    SUCCESS: int
    FAILURE: int
    CONTINUE: int

class JobStopReason:
    SUCCESS: int
    PAUSED: int
    FAILURE: int
    CANCELED: int

class LoadDicomInstanceMode:
    WHOLE_DICOM: int
    UNTIL_PIXEL_DATA: int
    EMPTY_PIXEL_DATA: int

class LogCategory:
    GENERIC: int
    PLUGINS: int
    HTTP: int
    SQLITE: int
    DICOM: int
    JOBS: int
    LUA: int

class LogLevel:
    ERROR: int
    WARNING: int
    INFO: int
    TRACE: int

class MetricsType:
    DEFAULT: int
    TIMER: int

class PixelFormat:
    GRAYSCALE8: int
    GRAYSCALE16: int
    SIGNED_GRAYSCALE16: int
    RGB24: int
    RGBA32: int
    UNKNOWN: int
    RGB48: int
    GRAYSCALE32: int
    FLOAT32: int
    BGRA32: int
    GRAYSCALE64: int

class QueueOrigin:
    FRONT: int
    BACK: int

class ReceivedInstanceAction:
    KEEP_AS_IS: int
    MODIFY: int
    DISCARD: int

class ResourceType:
    PATIENT: int
    STUDY: int
    SERIES: int
    INSTANCE: int
    NONE: int

class StableStatus:
    STABLE: int
    UNSTABLE: int

class StorageCommitmentFailureReason:
    SUCCESS: int
    PROCESSING_FAILURE: int
    NO_SUCH_OBJECT_INSTANCE: int
    RESOURCE_LIMITATION: int
    REFERENCED_SOPCLASS_NOT_SUPPORTED: int
    CLASS_INSTANCE_CONFLICT: int
    DUPLICATE_TRANSACTION_UID: int

class StoreStatus:
    SUCCESS: int
    ALREADY_STORED: int
    FAILURE: int
    FILTERED_OUT: int
    STORAGE_FULL: int

class ValueRepresentation:
    AE: int
    AS: int
    AT: int
    CS: int
    DA: int
    DS: int
    DT: int
    FD: int
    FL: int
    IS: int
    LO: int
    LT: int
    OB: int
    OF: int
    OW: int
    PN: int
    SH: int
    SL: int
    SQ: int
    SS: int
    ST: int
    TM: int
    UI: int
    UL: int
    UN: int
    US: int
    UT: int

class OrthancException(Exception): ...

class DicomConnection:
    def GetConnectionRemoteAet(self) -> str: ...
    def GetConnectionRemoteIp(self) -> str: ...
    def GetConnectionCalledAet(self) -> str: ...

class Image:
    def GetImageWidth(self) -> int: ...
    def GetImageHeight(self) -> int: ...
    def GetImagePitch(self) -> int: ...
    def GetImagePixelFormat(self) -> int: ...
    def GetImageBuffer(self) -> bytes: ...

class DicomInstance:
    def GetInstanceRemoteAet(self) -> str: ...
    def GetInstanceCalledAet(self) -> str: ...
    def GetInstanceRemoteIp(self) -> str: ...
    def GetInstanceOrigin(self) -> int: ...
    def GetInstanceSize(self) -> int: ...
    def GetInstanceData(self) -> bytes: ...
    def SerializeDicomInstance(self) -> bytes: ...
    def GetInstanceTransferSyntaxUid(self) -> str: ...
    def GetInstanceJson(self) -> str: ...
    def GetInstanceSimplifiedJson(self) -> str: ...
    def GetInstanceAdvancedJson(self, format: int, flags: int, maxStringLength: int) -> str: ...
    def HasInstancePixelData(self) -> int: ...
    def GetInstanceFramesCount(self) -> int: ...
    def GetInstanceRawFrame(self, frameIndex: int) -> bytes: ...
    def GetInstanceDecodedFrame(self, frameIndex: int) -> Image: ...
    def HasInstanceMetadata(self, metadata: str) -> int: ...
    def GetInstanceMetadata(self, metadata: str) -> str: ...

class FindMatcher:
    def FindMatcherIsMatch(self, dicom: bytes) -> int: ...
    def IsMatch(self, dicom: bytes) -> int: ...

class FindQuery:
    def GetFindQuerySize(self) -> int: ...
    def GetFindQueryTagName(self, index: int) -> str: ...
    def GetFindQueryTagGroup(self, index: int) -> int: ...
    def GetFindQueryTagElement(self, index: int) -> int: ...
    def GetFindQueryValue(self, index: int) -> str: ...

class FindAnswers:
    def FindAddAnswer(self, dicom: bytes) -> None: ...
    def FindMarkIncomplete(self) -> None: ...

class WorklistQuery:
    def WorklistGetDicomQuery(self) -> bytes: ...
    def WorklistIsMatch(self, dicom: bytes) -> int: ...

class WorklistAnswers:
    def WorklistAddAnswer(self, query: WorklistQuery, dicom: bytes) -> None: ...
    def WorklistMarkIncomplete(self) -> None: ...

def RestApiGet(uri: str) -> bytes: ...
def RestApiGetAfterPlugins(uri: str) -> bytes: ...
def RestApiDelete(uri: str) -> None: ...
def RestApiDeleteAfterPlugins(uri: str) -> None: ...
def RestApiPost(uri: str, body: bytes | str) -> bytes: ...
def RestApiPostAfterPlugins(uri: str, body: bytes | str) -> bytes: ...
def RestApiPut(uri: str, body: bytes | str) -> bytes: ...
def RestApiPutAfterPlugins(uri: str, body: bytes | str) -> bytes: ...
def GenerateRestApiAuthorizationToken() -> str: ...
def LookupPatient(value: str) -> str: ...
def LookupStudy(value: str) -> str: ...
def LookupSeries(value: str) -> str: ...
def LookupInstance(value: str) -> str: ...
def LookupStudyWithAccessionNumber(value: str) -> str: ...
def GetDicomForInstance(instance_id: str) -> bytes: ...
def DicomInstanceToJson(instance_id: str, format: int, flags: int, maxStringLength: int) -> str: ...
def CreateDicom(text: str, pixel_data: None, flags: int) -> bytes: ...
def CreateDicom2(text: str, pixel_data: None, flags: int, private_creator: str) -> bytes: ...
def CreateDicomInstance(content: bytes) -> DicomInstance: ...
def CreateFindMatcher(query: bytes) -> FindMatcher: ...
def DecodeDicomImage(buffer: bytes, frameIndex: int) -> Image: ...
def DicomBufferToJson(buffer: bytes, format: int, flags: int, maxStringLength: int) -> str: ...
def GetTagName(group: int, element: int, private_creator: str) -> str: ...
def LookupDictionary(name: str) -> dict[str, int]: ...
def ComputeMd5(buffer: bytes) -> str: ...
def ComputeSha1(buffer: bytes) -> str: ...
def GenerateUuid() -> str: ...
def GetConfiguration() -> str: ...
def LogError(message: str) -> None: ...
def LogInfo(message: str) -> None: ...
def LogWarning(message: str) -> None: ...
def LogMessage(message: str, plugin: str, file: str, line: int, category: int, level: int) -> None: ...
def RegisterIncomingCStoreInstanceFilter(callback: Callable[[DicomInstance], int]) -> None: ...
def RegisterFindCallback(callback: Callable[[FindAnswers, FindQuery, str, str], None]) -> None: ...
def RegisterFindCallback2(callback: Callable[[FindAnswers, FindQuery, DicomConnection], None]) -> None: ...
def RegisterMoveCallback(callback: Callable[..., None]) -> None: ...
def RegisterMoveCallback2(
    create: Callable[..., Any],
    size: Callable[[Any], int],
    apply: Callable[[Any], Any],
    free: Callable[[Any], Any],
) -> None: ...
def RegisterMoveCallback3(
    create: Callable[..., Any],
    size: Callable[[Any], int],
    apply: Callable[[Any], Any],
    free: Callable[[Any], Any],
) -> None: ...
def RegisterWorklistCallback(callback: Callable[[WorklistAnswers, WorklistQuery, str, str], None]) -> None: ...
def RegisterWorklistCallback2(callback: Callable[[WorklistAnswers, WorklistQuery, DicomConnection], None]) -> None: ...
def RegisterStorageCommitmentScpCallback(
    setup: Callable[[str, str, list[str], list[str], str, str], Any], lookup: Callable[[str, str, Any], int]
) -> None: ...
def RegisterStorageCommitmentScpCallback2(
    setup: Callable[[str, str, list[str], list[str], DicomConnection], Any], lookup: Callable[[str, str, Any], int]
) -> None: ...
def RegisterReceivedInstanceCallback(callback: Callable[[bytes, int], tuple[int, bytes | None]]) -> None: ...
def RegisterOnChangeCallback(callback: Callable[[int, int, str], None]) -> None: ...
def ExtendOrthancExplorer(*arguments: Any) -> None: ...
def ExtendOrthancExplorer2(*arguments: Any) -> None: ...
def RegisterDictionaryTag(*arguments: Any) -> None: ...
def RegisterErrorCode(*arguments: Any) -> None: ...
def RegisterIncomingHttpRequestFilter(*arguments: Any) -> None: ...
def RegisterOnStoredInstanceCallback(*arguments: Any) -> None: ...
def RegisterPrivateDictionaryTag(*arguments: Any) -> None: ...
def RegisterRestCallback(*arguments: Any) -> None: ...
def RegisterStorageArea(*arguments: Any) -> None: ...
def RegisterStorageArea3(*arguments: Any) -> None: ...
def SetDescription(*arguments: Any) -> None: ...
def SetDescription2(*arguments: Any) -> None: ...
def SetRootUri(*arguments: Any) -> None: ...
def SetRootUri2(*arguments: Any) -> None: ...
