"""A script for Orthanc's Python plugin that moves what a DICOMweb server has, instance by instance, as the reference.

It makes the REST calls that orthanc-team's proxy.py makes: list the instances, then for each retrieve it into
Orthanc through the DICOMweb client and send it with a store job; at the end delete the copies. With the callback of
version 3.2 of the plugin, which Debian's has. The called AE title names the server, in Orthanc's `DicomWeb.Servers`.
"""

import json

import orthanc


def _post(uri, body):
    return json.loads(orthanc.RestApiPostAfterPlugins(uri, json.dumps(body)) or b"null")


def _value(data_set, tag):
    return data_set[tag]["Value"][0]


def _alias(ae_title):
    modalities = json.loads(orthanc.RestApiGet("/modalities?expand"))
    return next(alias for alias, modality in modalities.items() if modality["AET"] == ae_title)


def move(**request):
    """One C-MOVE request at study level."""
    server = f"/dicom-web/servers/{request['SourceAET']}"
    listing = _post(f"{server}/get", {"Uri": f"studies/{request['StudyInstanceUID']}/instances"})
    alias = _alias(request["TargetAET"])
    copies = []
    for data_set in listing:
        study, series, instance = (_value(data_set, tag) for tag in ("0020000D", "0020000E", "00080018"))
        _post(f"{server}/retrieve", {"Resources": [{"Study": study, "Series": series, "Instance": instance}]})
        (copy,) = json.loads(orthanc.RestApiPost("/tools/lookup", instance))
        copies.append(copy["ID"])
        _post(f"/modalities/{alias}/store", {"Resources": [copy["ID"]], "Synchronous": True})
    _post("/tools/bulk-delete", {"Resources": copies})


orthanc.RegisterMoveCallback(move)
