"""The module `orthanc` of the host: made once, before the script is executed."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from gateway.dicom.character_sets import CharacterSet
from gateway.log import get_logger
from gateway.script_host.api import enumerations, queries
from gateway.script_host.api.catalogue import CALLED_BY_ORTHANC, NOT_OFFERED, ONLY_IN_ORTHANC
from gateway.script_host.api.create_dicom import create_dicom
from gateway.script_host.api.dicom_json import JsonOptions, to_json
from gateway.script_host.api.dictionary import look_up, tag_name
from gateway.script_host.api.errors import NOT_IMPLEMENTED, OrthancException
from gateway.script_host.api.files import encoded_data_set, read_file
from gateway.script_host.api.find_matcher import FindMatcher
from gateway.script_host.api.frames import Image
from gateway.script_host.api.instance import DicomInstance
from gateway.script_host.api.rest import RestApi
from gateway.script_host.kinds import Kind
from gateway.script_host.registrations import Registration, Registrations


@dataclass(frozen=True)
class Surroundings:
    """What the functions of the module work with."""

    registrations: Registrations
    rest: RestApi
    # Orthanc's configuration, as GetConfiguration gives it.
    content: dict[str, Any]
    default_encoding: CharacterSet
    case_sensitive_pn: bool
    # Whether Orthanc runs the same file too: then what both could call is called there.
    is_also_in_orthanc: bool = False
    # Whether Orthanc's plugin runs the gateway: then received instances are its own matter.
    is_in_orthanc: bool = False


class OrthancModule(ModuleType):
    """The module; a name that it lacks says so."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"module 'orthanc' of dicom-gateway has no attribute {name!r}")


def make_module(surroundings: Surroundings) -> OrthancModule:
    """The module, with all that it offers."""
    module = OrthancModule("orthanc", "Orthanc's Python API, as far as dicom-gateway offers it.")
    offered: dict[str, Any] = {
        **enumerations.classes(),
        **_classes(),
        **_rest_functions(surroundings.rest),
        **_dicom_functions(surroundings),
        **_general_functions(surroundings),
        **_registering_functions(surroundings),
    }
    for name, value in offered.items():
        setattr(module, name, value)
    for name, what in ONLY_IN_ORTHANC.items():
        setattr(module, name, _ignored(name, what))
    for name, instead in NOT_OFFERED.items():
        setattr(module, name, _not_offered(name, instead))
    return module


def _classes() -> dict[str, Any]:
    return {
        "DicomConnection": queries.DicomConnection,
        "DicomInstance": DicomInstance,
        "FindAnswers": queries.FindAnswers,
        "FindMatcher": FindMatcher,
        "FindQuery": queries.FindQuery,
        "Image": Image,
        "OrthancException": OrthancException,
        "WorklistAnswers": queries.WorklistAnswers,
        "WorklistQuery": queries.WorklistQuery,
    }


def _rest_functions(rest: RestApi) -> dict[str, Any]:
    functions: dict[str, Any] = {"GenerateRestApiAuthorizationToken": rest.authorization}
    for name, function in (("Get", rest.get), ("Post", rest.post), ("Put", rest.put), ("Delete", rest.delete)):
        functions[f"RestApi{name}"] = functions[f"RestApi{name}AfterPlugins"] = function
    for level in ("Patient", "Study", "Series", "Instance"):
        functions[f"Lookup{level}"] = _lookup(rest, level)
    functions["LookupStudyWithAccessionNumber"] = rest.look_up_accession_number

    def get_dicom_for_instance(instance_id: str) -> bytes:
        return rest.get(f"/instances/{instance_id}/file")

    def dicom_instance_to_json(instance_id: str, format: int, flags: int, maxStringLength: int) -> str:
        file = read_file(get_dicom_for_instance(instance_id))
        return to_json(file, JsonOptions.of(format, flags, maxStringLength))

    functions["GetDicomForInstance"] = get_dicom_for_instance
    functions["DicomInstanceToJson"] = dicom_instance_to_json
    return functions


def _lookup(rest: RestApi, level: str) -> Callable[[str], str]:
    return lambda value: rest.look_up(value, level)


def _dicom_functions(surroundings: Surroundings) -> dict[str, Any]:
    def create(text: str, pixel_data: Any, flags: int) -> bytes:
        return create_dicom(text, pixel_data, flags, surroundings.content)

    def create_2(text: str, pixel_data: Any, flags: int, private_creator: str) -> bytes:
        return create_dicom(text, pixel_data, flags, surroundings.content, private_creator)

    def to_json_text(buffer: bytes, format: int, flags: int, maxStringLength: int) -> str:
        return to_json(read_file(buffer), JsonOptions.of(format, flags, maxStringLength))

    def create_find_matcher(query: bytes) -> FindMatcher:
        return FindMatcher.of_identifier(
            *encoded_data_set(query),
            surroundings.default_encoding,
            case_sensitive_pn=surroundings.case_sensitive_pn,
        )

    return {
        "CreateDicom": create,
        "CreateDicom2": create_2,
        "CreateDicomInstance": DicomInstance,
        "CreateFindMatcher": create_find_matcher,
        "DecodeDicomImage": lambda buffer, frameIndex: DicomInstance(buffer).GetInstanceDecodedFrame(frameIndex),
        "DicomBufferToJson": to_json_text,
        "GetTagName": lambda group, element, _private_creator: tag_name(group << 16 | element),
        "LookupDictionary": look_up,
    }


def _general_functions(surroundings: Surroundings) -> dict[str, Any]:
    log = get_logger()
    # LogLevel
    by_level = {0: log.error, 1: log.warning, 2: log.info, 3: log.debug}

    def log_message(message: str, plugin: str, file: str, line: int, category: int, level: int) -> None:
        by_level.get(level, log.info)("script", text=_text(message))

    return {
        "ComputeMd5": lambda buffer: hashlib.md5(buffer, usedforsecurity=False).hexdigest(),
        "ComputeSha1": _sha1,
        "GenerateUuid": lambda: str(uuid.uuid4()),
        "GetConfiguration": lambda: json.dumps(surroundings.content, indent=3),
        "LogError": lambda message: log.error("script", text=_text(message)),
        "LogInfo": lambda message: log.info("script", text=_text(message)),
        "LogMessage": log_message,
        "LogWarning": lambda message: log.warning("script", text=_text(message)),
    }


def _sha1(buffer: bytes) -> str:
    """In five groups, as Orthanc writes its identifiers."""
    digits = hashlib.sha1(buffer, usedforsecurity=False).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, len(digits), 8))


def _text(message: str) -> str:
    if not isinstance(message, str):
        raise TypeError("Bad types for the arguments (1 arguments expected)")
    return message


# What registers a callback: its kind, how many functions it takes, and whether they get a connection object.
REGISTERING: Final[dict[str, tuple[Kind, int, bool]]] = {
    "RegisterIncomingCStoreInstanceFilter": (Kind.FILTER, 1, False),
    "RegisterFindCallback": (Kind.FIND, 1, False),
    "RegisterFindCallback2": (Kind.FIND, 1, True),
    "RegisterMoveCallback": (Kind.MOVE, 1, False),
    "RegisterMoveCallback2": (Kind.MOVE, 4, False),
    "RegisterMoveCallback3": (Kind.MOVE, 4, True),
    "RegisterWorklistCallback": (Kind.WORKLIST, 1, False),
    "RegisterWorklistCallback2": (Kind.WORKLIST, 1, True),
    "RegisterStorageCommitmentScpCallback": (Kind.STORAGE_COMMITMENT, 2, False),
    "RegisterStorageCommitmentScpCallback2": (Kind.STORAGE_COMMITMENT, 2, True),
}


def _registering_functions(surroundings: Surroundings) -> dict[str, Any]:
    functions: dict[str, Any] = {
        each: _registering(surroundings.registrations, each, *details) for each, details in REGISTERING.items()
    }

    def register_on_change(callback: Callable[..., Any]) -> None:
        _check_callables(callback)
        if surroundings.is_also_in_orthanc:
            _say_ignored("RegisterOnChangeCallback", "Orthanc runs this file too")
            return
        if surroundings.registrations.on_change is not None:
            raise RuntimeError("Can only register one Python on-changes callback")
        surroundings.registrations.on_change = callback

    name = "RegisterReceivedInstanceCallback"
    register = _registering(surroundings.registrations, name, Kind.RECEIVED_INSTANCE, 1, False)

    def register_received_instance(callback: Callable[..., Any]) -> None:
        if surroundings.is_also_in_orthanc:
            _say_ignored(name, "Orthanc runs this file too")
        elif surroundings.is_in_orthanc:
            _ignored(name, CALLED_BY_ORTHANC[name])()
        else:
            register(callback)

    functions["RegisterOnChangeCallback"] = register_on_change
    functions[name] = register_received_instance
    return functions


def _registering(registrations: Registrations, name: str, kind: Kind, count: int, has_connection: bool) -> Any:
    def register(*callbacks: Callable[..., Any]) -> None:
        if len(callbacks) != count:
            raise TypeError(f"Bad types for the arguments ({count} arguments expected)")
        _check_callables(*callbacks)
        registrations.add(kind, Registration(name, callbacks, has_connection))

    register.__name__ = name
    return register


def _check_callables(*callbacks: Any) -> None:
    if not all(map(callable, callbacks)):
        raise TypeError("Bad types for the arguments: functions are expected")


def _ignored(name: str, what: str) -> Any:
    def ignore(*_arguments: Any) -> None:
        _say_ignored(name, f"it {what} (DicomGateway.OrthancScripts)")

    ignore.__name__ = name
    return ignore


def _say_ignored(name: str, reason: str) -> None:
    get_logger().info(f"{name} is ignored here: {reason}")


def _not_offered(name: str, instead: str) -> Any:
    def refuse(*_arguments: Any) -> None:
        raise OrthancException(NOT_IMPLEMENTED, f"orthanc.{name} is not offered here; instead: {instead}")

    refuse.__name__ = name
    return refuse
