"""Changes, discards or keeps what Orthanc receives, by its Patient ID, and tells where it came from."""

import json

import orthanc

ORIGINS = []


def on_received(dicom, origin):
    ORIGINS.append(origin)
    if b"DISCARDS" in dicom:
        return orthanc.ReceivedInstanceAction.DISCARD, None
    if b"CHANGEME" in dicom:
        return orthanc.ReceivedInstanceAction.MODIFY, dicom.replace(b"CHANGEME", b"IS DONE ")
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None


def origins(output, uri, **request):
    output.AnswerBuffer(json.dumps(ORIGINS), "application/json")


orthanc.RegisterReceivedInstanceCallback(on_received)
orthanc.RegisterRestCallback("/origins", origins)
