"""Nobody may post instances without a key."""

import orthanc


def is_allowed(uri, **request):
    is_upload = uri == "/instances" and request["method"] == orthanc.HttpMethod.POST
    return not is_upload or request["headers"].get("x-key") == "open"


orthanc.RegisterIncomingHttpRequestFilter(is_allowed)
