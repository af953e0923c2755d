"""Answers C-FIND and C-MOVE with what a DICOMweb server has, through the DICOMweb client of an Orthanc.

It makes the calls of orthanc-team's dicom-dicomweb-proxy, with the same arguments and in the same order.
"""

import dataclasses
import json
import os
import pprint

import orthanc

VERBOSE = os.environ.get("VERBOSE_ENABLED") == "true"
LEVELS = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}
CHARSETS = {"ISO_IR 100": "ISO-8859-1", "ISO_IR 192": "UTF-8"}
SERVERS = json.loads(orthanc.GetConfiguration()).get("DicomWeb", {}).get("Servers", {})


def ask(server, uri, headers, **more):
    body = {"Uri": uri, "HttpHeaders": headers, **more}
    return json.loads(orthanc.RestApiPostAfterPlugins(f"/dicom-web/servers/{server}/get", json.dumps(body)))


def flattened(data_set):
    """A tag is eight digits here; of each value the first, of a sequence what is in its first item."""
    tags = {}
    for tag, element in data_set.items():
        for value in element.get("Value", [])[:1]:
            if not isinstance(value, dict):
                tags[tag] = str(value)
            elif "Alphabetic" in value:
                tags[tag] = value["Alphabetic"]
            else:
                tags.update(flattened(value))
    return tags


def on_find(answers, query, issuer_aet, called_aet):
    level, charset, arguments = "studies", "UTF-8", {}
    for index in range(query.GetFindQuerySize()):
        name, value = query.GetFindQueryTagName(index), query.GetFindQueryValue(index)
        if name == "QueryRetrieveLevel":
            level = LEVELS.get(value, "studies")
        elif name == "SpecificCharacterSet":
            charset = CHARSETS.get(value, "UTF-8")
        else:
            arguments[name] = value
    if VERBOSE:
        pprint.pprint([issuer_aet, arguments])
    headers = {"Accept": "application/dicom", "Accept-Charset": charset}
    for answer in ask(called_aet, level, headers, Arguments=arguments):
        tags = json.dumps(flattened(answer))
        answers.FindAddAnswer(orthanc.CreateDicom(tags, None, orthanc.CreateDicomFlags.NONE))


@dataclasses.dataclass
class Instance:
    study: str
    series: str
    uid: str


class Driver:
    def __init__(self, request):
        self.request = request
        self.copies = []
        self.listed: list[Instance] = []
        # As much as theirs holds for each move.
        self.memory = [0] * 10_000_000
        if request["SourceAET"] in {None, ""} or request["StudyInstanceUID"] in {None, ""}:
            raise Exception("SourceAET or StudyInstanceUID is missing")
        if request["Level"] == "SERIES" and request["SeriesInstanceUID"] in {None, ""}:
            raise Exception("SeriesInstanceUID is missing")
        self.server = request["SourceAET"]
        modalities = json.loads(orthanc.RestApiGet("/modalities?expand"))
        aliases = [alias for alias, modality in modalities.items() if modality["AET"] == request["TargetAET"]]
        if not aliases:
            raise Exception("the destination is no modality of the proxy")
        self.alias = aliases[0]

    def list(self):
        for study in self.request["StudyInstanceUID"].split("\\"):
            uri = f"studies/{study}"
            if self.request["Level"] == "SERIES":
                uri += "/series/" + self.request["SeriesInstanceUID"]
            for one in ask(self.server, f"{uri}/metadata", {"Accept": "application/json"}):
                self.listed.append(Instance(*(one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))))

    def transfer(self):
        one = self.listed.pop(0)
        resources = [{"Study": one.study, "Series": one.series, "Instance": one.uid}]
        uri = f"/dicom-web/servers/{self.server}/retrieve"
        orthanc.RestApiPostAfterPlugins(uri, json.dumps({"Resources": resources}))
        copy = orthanc.LookupInstance(one.uid)
        self.copies.append(copy)
        orthanc.RestApiPost(f"/modalities/{self.alias}/store", json.dumps({"Resources": [copy]}))


def on_create(**request):
    orthanc.LogInfo("create")
    return Driver(request=request)


def on_size(driver: Driver):
    orthanc.LogInfo("size")
    driver.list()
    return len(driver.listed)


def on_apply(driver: Driver):
    orthanc.LogInfo("apply")
    driver.transfer()
    return 0


def on_free(driver):
    orthanc.LogInfo("free")
    orthanc.RestApiPost("/tools/bulk-delete", json.dumps({"Resources": driver.copies}))


if not SERVERS:
    orthanc.LogWarning("no DICOMweb servers in the configuration")
orthanc.RegisterFindCallback(on_find)
orthanc.RegisterMoveCallback2(on_create, on_size, on_apply, on_free)
