"""Routes with groups, arguments and a body; a global of its own, which another script has too."""

import json

import orthanc

from . import texts

COUNT = 0


def count(output, uri, **request):
    global COUNT
    COUNT += 1
    output.AnswerBuffer(json.dumps([uri, request["method"], list(request["groups"]), COUNT]), "application/json")


def echo(output, uri, **request):
    if request["method"] == "POST":
        output.AnswerBuffer(texts.LOUD(request["body"].decode()), "text/plain")
    else:
        output.SendMethodNotAllowed("POST")


orthanc.RegisterRestCallback("/count/(.*)", count)
orthanc.RegisterRestCallback("/echo", echo)
