"""A script for Orthanc's Python plugin, and for the gateway: looks at each incoming instance, and accepts it."""

import json

import orthanc


def accept(instance):
    """Who sends, and all tags as JSON text: what a filter looks at."""
    instance.GetInstanceRemoteAet()
    if "SOPInstanceUID" not in json.loads(instance.GetInstanceSimplifiedJson()):
        return 0xA900
    return 0


orthanc.RegisterIncomingCStoreInstanceFilter(accept)
