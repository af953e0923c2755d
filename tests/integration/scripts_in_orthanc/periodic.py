"""Does something again and again, from the start of Orthanc to its end."""

import threading

import orthanc

TICKS = 0
TIMER = None


def tick():
    global TICKS, TIMER
    TICKS += 1
    TIMER = threading.Timer(0.1, tick)
    TIMER.start()


def on_change(change, level, resource):
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        tick()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        TIMER.cancel()
        orthanc.LogWarning("periodic: the timer has ended")


def ticks(output, uri, **request):
    output.AnswerBuffer(str(TICKS), "application/json")


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/ticks", ticks)
