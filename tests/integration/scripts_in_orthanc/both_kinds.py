"""Callbacks of both kinds, also such that plugin 4.0 lacks."""

import orthanc


def never(*arguments, **named):
    raise AssertionError("called inside Orthanc")


def both(output, uri, **request):
    output.AnswerBuffer("loaded", "text/plain")


orthanc.RegisterIncomingCStoreInstanceFilter(never)
orthanc.RegisterFindCallback(never)
orthanc.RegisterFindCallback2(never)
orthanc.RegisterMoveCallback(never)
orthanc.RegisterMoveCallback2(never, never, never, never)
orthanc.RegisterMoveCallback3(never, never, never, never)
orthanc.RegisterWorklistCallback(never)
orthanc.RegisterWorklistCallback2(never)
orthanc.RegisterStorageCommitmentScpCallback(never, never)
orthanc.RegisterStorageCommitmentScpCallback2(never, never)
orthanc.RegisterRestCallback("/both", both)
