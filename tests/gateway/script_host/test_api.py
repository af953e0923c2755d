"""The module `orthanc` of the host is the plugin's: its names, and what its functions make of pydicom's files.

A real Orthanc with the plugin runs the same calls on the same files.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from gateway.dicom.character_sets import of_orthanc
from gateway.forwarding.transports import Endpoint
from gateway.script_host.api.catalogue import NOT_OFFERED, ONLY_IN_ORTHANC
from gateway.script_host.api.module import Surroundings, make_module
from gateway.script_host.api.rest import RestApi
from gateway.script_host.registrations import Registrations
from tests.support.orthanc import PYTHON_PLUGIN, Orthanc
from tests.support.processes import wait_until
from tests.test_docs import SCRIPTS, rows, section

STUB: Final = Path(__file__).parents[3] / "gateway" / "script_host" / "orthanc.pyi"

# Of every transfer syntax, with sequences, character sets, several frames; without private tags, see below.
FILES: Final = (
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "rtplan.dcm",
    "rtdose_1frame.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
    "693_J2KI.dcm",
)
# Lossless, or not compressed: decoded by any decoder to the same pixels.
DECODED: Final = (
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
)
CREATED: Final = (
    ({"PatientName": "Jodogne^Sébastien", "0010,0020": "x", "StudyInstanceUID": "1.2"}, 0),
    ({"PatientID": "", "Rows": "12", "ModalitiesInStudy": "CT\\MR", "NumberOfStudyRelatedInstances": "3"}, 0),
    ({"ScheduledProcedureStepSequence": [{"Modality": "CT", "ScheduledProcedureStepStartDate": "20200101"}]}, 0),
    ({"PatientName": "Jodogne^Sébastien", "SpecificCharacterSet": "ISO_IR 192"}, 0),
    ({"Nothing": "like this"}, 0),
    ({"PatientID": 5}, 0),
    # What proxies hand on, and the Book's sample that answers each key with "HELLO".
    ({"NumberOfStudyRelatedInstances": "HELLO", "PatientWeight": "1.23456789012345678901234", "StudyDate": "?"}, 0),
    ({"RequestAttributesSequence": [{"PatientWeight": "1\\x"}], "StudyInstanceUID": "HELLO5-"}, 0),
    ({"PatientID": None, "PatientWeight": None}, 0),
    ({"FrameIncrementPointer": "0018,1063", "00080020": "20200101", "0008-0030": "12"}, 0),
    ({"TransferSyntaxUID": "1.2.840.10008.1.2", "0008,0000": "3", "PatientID": "x"}, 0),
    ({"Rows": "HELLO"}, 0),
    ({"Rows": "70000"}, 0),
)
# Without file meta information, as pydicom writes a Dataset; of Explicit and of Implicit VR.
BARE: Final = (
    b"\x10\0\x10\0PN\4\0A^B \x10\0\x20\0LO\2\0P ",
    b"\x10\0\x10\0\4\0\0\0A^B \x10\0\x20\0\2\0\0\0P ",
)
# Functions that came with plugins 4.1 to 7.1, or with newer SDKs.
SINCE_4_0: Final = {
    "AcknowledgeQueueValue",
    "CreateDicom2",
    "CreateKeysValuesIterator",
    "DeleteKeyValue",
    "DequeueValue",
    "EmitAuditLog",
    "EnqueueValue",
    "ExtendOrthancExplorer2",
    "GetAttachmentCustomData",
    "GetDatabaseServerIdentifier",
    "GetKeyValue",
    "GetQueueSize",
    "LoadDicomInstance",
    "LogMessage",
    "RegisterFindCallback2",
    "RegisterMoveCallback2",
    "RegisterMoveCallback3",
    "RegisterStorageArea3",
    "RegisterStorageCommitmentScpCallback",
    "RegisterStorageCommitmentScpCallback2",
    "RegisterWorklistCallback2",
    "ReserveQueueValue",
    "SetAttachmentCustomData",
    "SetCurrentThreadName",
    "SetDescription2",
    "SetMetricsIntegerValue",
    "SetRootUri2",
    "SetStableStatus",
    "StoreKeyValue",
}
# Of the file MR_small.dcm.
MATCHED: Final = (
    {"PatientName": "CompressedSamples*"},
    {"PatientName": "compressedsamples^mr1"},
    {"PatientName": "Nobody"},
    {"PatientID": "4MR1", "StudyDate": "20040826"},
    {"StudyDate": "20040101-20041231"},
    {"StudyDate": "20050101-"},
    {"Modality": "CT\\MR"},
    {"Modality": "mr"},
    {"AccessionNumber": "A1"},
    {"ScheduledProcedureStepSequence": [{"Modality": "CT"}]},
)

Probe = Callable[[ModuleType], dict[str, Any]]


def probe(
    orthanc: Any,
    files: list[str],
    decoded: list[str],
    created: list[Any],
    matched: list[Any],
    bare: list[str],
) -> dict[str, Any]:
    """What functions of the module `orthanc` say of files; runs in the plugin and here."""

    def outcome(function: Any) -> Any:
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - whatever it raises is compared
            return [type(error).__name__, error.args[0]]

    def contents(path: str) -> bytes:
        with open(path, "rb") as file:  # noqa: PTH123 - runs in the plugin
            return file.read()

    def image(instance: Any) -> Any:
        made = instance.GetInstanceDecodedFrame(0)
        size = [made.GetImageWidth(), made.GetImageHeight(), made.GetImagePitch(), made.GetImagePixelFormat()]
        return [*size, hashlib.md5(made.GetImageBuffer()).hexdigest()]

    said: dict[str, Any] = {}
    for path in files:
        content = contents(path)
        instance = orthanc.CreateDicomInstance(content)
        said[path] = {
            "Full": json.loads(instance.GetInstanceJson()),
            "Simple": json.loads(instance.GetInstanceSimplifiedJson()),
            "size": instance.GetInstanceSize(),
            "syntax": instance.GetInstanceTransferSyntaxUid(),
            "pixels": instance.HasInstancePixelData(),
            "frames": instance.GetInstanceFramesCount(),
            "frame": outcome(lambda i=instance: hashlib.md5(i.GetInstanceRawFrame(0)).hexdigest()),
            "no frame": outcome(lambda i=instance: i.GetInstanceRawFrame(99))[0],
            "origin": instance.GetInstanceOrigin(),
            "remote": instance.GetInstanceRemoteAet(),
            "data": instance.GetInstanceData() == content,
        }
        for flags in (0, 6, 15, 47, 70, 134):
            for form in (1, 2, 3):
                text = orthanc.DicomBufferToJson(content, form, flags, 30)
                said[path][f"format {form}, flags {flags}"] = json.loads(text)
        if path in decoded:
            said[path]["image"] = outcome(lambda i=instance: image(i))
    for number, (tags, flags) in enumerate(created):
        said[f"created {number}"] = outcome(
            lambda t=tags, f=flags: json.loads(
                orthanc.DicomBufferToJson(orthanc.CreateDicom(json.dumps(t), None, f), 1, 6, 0)
            )
        )
    subject = contents(files[0])
    for number, query in enumerate(matched):
        matcher = orthanc.CreateFindMatcher(orthanc.CreateDicom(json.dumps(query), None, 0))
        said[f"matched {number}"] = matcher.FindMatcherIsMatch(subject)
    of_nobody = orthanc.CreateFindMatcher(orthanc.CreateDicom('{"PatientID": "P"}', None, 0))
    for number, digits in enumerate(bare):
        content = bytes.fromhex(digits)
        said[f"bare {number}"] = [
            outcome(lambda c=content: json.loads(orthanc.DicomBufferToJson(c, 2, 0, 0))),
            outcome(lambda c=content: type(orthanc.CreateFindMatcher(c)).__name__),
            of_nobody.FindMatcherIsMatch(content),
        ]
    said["dictionary"] = [orthanc.LookupDictionary(name) for name in ("PatientID", "Rows", "ImageType")]
    said["names"] = [orthanc.GetTagName(0x0010, element, "") for element in (0x0010, 0x0020, 0x4000)]
    said["hashes"] = [orthanc.ComputeMd5(b"a"), orthanc.ComputeSha1(b"a")]
    said["unknown"] = outcome(lambda: orthanc.LookupDictionary("Nothing"))[0]
    for name, function in (
        ("absent", lambda: orthanc.RestApiGet("/instances/nothing")),
        ("no route", lambda: orthanc.RestApiGet("/nothing")),
        ("no DICOM", lambda: orthanc.RestApiPost("/instances", b"nothing")),
        ("no JSON", lambda: orthanc.RestApiPost("/tools/find", b"nothing")),
        ("not allowed", lambda: orthanc.RestApiPost("/system", b"")),
        ("no instance", lambda: orthanc.LookupInstance("1.2.3")),
        ("delete", lambda: orthanc.RestApiDelete("/instances/nothing")),
        ("put", lambda: orthanc.RestApiPut("/modalities/one", b'["ONE", "h", 104]').decode()),
        ("delete it", lambda: orthanc.RestApiDelete("/modalities/one")),
        ("text", lambda: orthanc.RestApiPost("/tools/lookup", "nothing").decode()),
        ("no arguments", lambda: orthanc.RestApiGet()),
    ):
        said[name] = outcome(function)
        if name == "no arguments":
            said[name] = said[name][0]
    return said


def paths(names: tuple[str, ...]) -> list[str]:
    return [str(get_testdata_file(name)) for name in names]


ARGUMENTS: Final = (paths(FILES), paths(DECODED), list(CREATED), list(MATCHED), [content.hex() for content in BARE])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc whose plugin has answered the probe."""
    directory = tmp_path_factory.mktemp("plugin")
    import inspect

    script = directory / "probe.py"
    script.write_text(
        "import hashlib, json, orthanc\nfrom typing import Any\n"
        + inspect.getsource(probe)
        + f"""
def on_change(change, level, resource):
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        said = probe(orthanc, *json.loads({json.dumps(ARGUMENTS)!r}))
        names = {{name: dict((k, v) for k, v in vars(value).items() if isinstance(v, int)) for name, value in
                 vars(orthanc).items() if isinstance(value, type)}}
        with open({str(directory / "said")!r}, "w") as file:
            methods = {{name: [method for method in dir(value) if callable(getattr(value, method)) and method[0] != "_"]
                       for name, value in vars(orthanc).items() if isinstance(value, type)}}
            functions = [name for name in dir(orthanc) if type(getattr(orthanc, name)) is type(dir)]
            json.dump({{"said": said, "names": dir(orthanc), "classes": names, "methods": methods,
                       "functions": functions}}, file)
        open({str(directory / "done")!r}, "w").close()

orthanc.RegisterOnChangeCallback(on_change)
"""
    )
    made = Orthanc(directory, Plugins=[PYTHON_PLUGIN], PythonScript=str(script))
    try:
        made.start()
        wait_until((directory / "done").exists, 60, made.log_tail)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def plugin(server: Orthanc) -> dict[str, Any]:
    return dict(json.loads((server.directory / "said").read_text()))


def module(url: str = "http://127.0.0.1:1") -> ModuleType:
    made = Surroundings(
        registrations=Registrations(),
        rest=RestApi(Endpoint(url)),
        content={"DicomAet": "ORTHANC"},
        default_encoding=of_orthanc("Latin1"),
        case_sensitive_pn=False,
    )
    return make_module(made)


@pytest.fixture(scope="module")
def host(server: Orthanc) -> dict[str, Any]:
    return dict(json.loads(json.dumps(probe(module(server.url), *ARGUMENTS))))


@pytest.mark.parametrize("name", FILES)
def test_instances_are_described_as_the_plugin_does(plugin: dict[str, Any], host: dict[str, Any], name: str) -> None:
    path = str(get_testdata_file(name))
    assert host[path] == plugin["said"][path]


def test_other_functions_answer_as_the_plugin_does(plugin: dict[str, Any], host: dict[str, Any]) -> None:
    theirs = {name: value for name, value in plugin["said"].items() if not name.startswith("/")}
    ours = {name: value for name, value in host.items() if not name.startswith("/")}
    for name in list(theirs):
        if name.startswith("created") and isinstance(theirs[name], list):  # the text says more here
            theirs[name][1] = ours[name][1]
    assert ours == theirs


def test_every_name_of_the_plugin_is_there_or_is_said_not_to_be(plugin: dict[str, Any]) -> None:
    names = {name for name in plugin["names"] if not name.startswith("__")}
    # Objects that come of functions which are not offered, or of callbacks that Orthanc calls.
    objects = {"DicomWebNode", "Job", "Peers", "RestOutput", "ServerChunkedRequestReader", "StorageArea"}
    assert names - set(vars(module())) == objects


def test_every_function_of_the_plugin_stands_in_the_documentation(plugin: dict[str, Any]) -> None:
    described = {row[0].strip("`") for row in rows(section(SCRIPTS, "### Functions"))}
    assert len(plugin["functions"]) > 70
    assert set(plugin["functions"]) <= described
    assert described - set(plugin["functions"]) == SINCE_4_0


def test_objects_have_the_plugins_methods(plugin: dict[str, Any]) -> None:
    ours = vars(module())
    for name in (
        "DicomInstance",
        "FindAnswers",
        "FindMatcher",
        "FindQuery",
        "Image",
        "WorklistAnswers",
        "WorklistQuery",
    ):
        assert plugin["methods"][name]
        assert set(plugin["methods"][name]) <= set(dir(ours[name]))
    assert {"GetConnectionRemoteAet", "GetConnectionRemoteIp", "GetConnectionCalledAet"} <= set(
        dir(ours["DicomConnection"])
    )
    assert "IsMatch" in dir(ours["FindMatcher"])  # its name since plugin 4.1


def test_enumerations_have_the_plugins_values(plugin: dict[str, Any]) -> None:
    ours = vars(module())
    for name, values in plugin["classes"].items():
        for key, value in values.items():
            assert getattr(ours[name], key) == value


def test_stub_has_what_the_module_offers() -> None:
    tree = ast.parse(STUB.read_text())
    stubbed = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    offered = {name for name in vars(module()) if not name.startswith("__")}
    assert stubbed == offered - NOT_OFFERED.keys()


def test_what_is_not_offered_says_what_to_use_instead() -> None:
    made = module()
    for name, instead in NOT_OFFERED.items():
        with pytest.raises(made.OrthancException) as caught:
            getattr(made, name)(1, 2)
        assert caught.value.args[0] == made.ErrorCode.NOT_IMPLEMENTED
        assert name in caught.value.args[1]
        assert instead in caught.value.args[1]
    for name in ONLY_IN_ORTHANC:
        assert getattr(made, name)(print) is None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        made.Nothing  # noqa: B018


def test_second_registration_of_a_kind_is_refused_as_in_the_plugin() -> None:
    made = module()
    made.RegisterFindCallback(print)
    with pytest.raises(RuntimeError, match="Can only register one"):
        made.RegisterFindCallback2(print)
    with pytest.raises(TypeError):
        made.RegisterMoveCallback2(print)


def test_identifiers_are_made() -> None:
    made = module()
    file = made.CreateDicom('{"PatientName": "A"}', None, made.CreateDicomFlags.GENERATE_IDENTIFIERS)
    tags = json.loads(made.DicomBufferToJson(file, made.DicomToJsonFormat.HUMAN, 0, 0))
    assert {"PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"} <= tags.keys()


def test_pixel_data_by_the_data_uri_scheme(tmp_path: Path) -> None:
    made = module()
    tags = {"Rows": "1", "Columns": "3", "BitsAllocated": "8", "PixelData": "data:application/octet-stream;base64,AQID"}
    path = tmp_path / "file.dcm"
    path.write_bytes(made.CreateDicom(json.dumps(tags), None, made.CreateDicomFlags.DECODE_DATA_URI_SCHEME))
    assert dcmread(path).PixelData[:3] == b"\1\2\3"
