"""Its callbacks raise, one even what ends a program."""

import sys

import orthanc


def on_change(change, level, resource):
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        sys.exit("the first event")
    raise ValueError("always")


def on_stored_instance(instance, identifier):
    raise ValueError("never stored")


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored_instance)
