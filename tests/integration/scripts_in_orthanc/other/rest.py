"""A file of the same name, with a global of the same name, a module beside it of the same name, and the same route."""

import orthanc

from . import texts

COUNT = "another"


def count(output, uri, **request):
    output.AnswerBuffer(f"{__name__} {COUNT} {texts.TEXT}", "text/plain")


orthanc.RegisterRestCallback("/other-count", count)
orthanc.RegisterRestCallback("/count/(.*)", count)
