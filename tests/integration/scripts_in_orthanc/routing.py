"""Sends each stable study of one patient to a modality; tells the instances that it has heard of."""

import json

import orthanc

STORED = []


def on_change(change, level, resource):
    if change == orthanc.ChangeType.STABLE_STUDY:
        study = json.loads(orthanc.RestApiGet(f"/studies/{resource}"))
        if study["PatientMainDicomTags"]["PatientID"] == "ROUTED":
            orthanc.RestApiPost("/modalities/destination/store", resource)


def on_stored_instance(instance, identifier):
    STORED.append([identifier, instance.GetInstanceOrigin()])


def stored(output, uri, **request):
    output.AnswerBuffer(json.dumps(STORED), "application/json")


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored_instance)
orthanc.RegisterRestCallback("/stored", stored)
