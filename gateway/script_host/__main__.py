"""The process of the script.

Started by the supervisor as `python -I -m gateway.script_host CONTROL_FD`, settings on standard input. A byte on the
control socket, or its end, means stop.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import partial
from typing import Final

from gateway.child import begin, until_stopped
from gateway.dicom.character_sets import of_orthanc
from gateway.log import get_logger
from gateway.script_host import output
from gateway.script_host.api.module import make_module
from gateway.script_host.changes import ChangeFollower, logged, relayed
from gateway.script_host.handlers import Handlers
from gateway.script_host.loading import CannotLoad, load
from gateway.script_host.packets import socket_path
from gateway.script_host.process import in_this_process, limit_memory, surroundings
from gateway.script_host.registrations import Registrations
from gateway.script_host.running import EXIT_REPLACE, Turns
from gateway.script_host.server import Server

# Why a script cannot be loaded may pass: Orthanc does not answer yet, say. Until then callers hear the reason at once.
LOAD_RETRY_S: Final = 10.0


def main() -> None:
    """Entry point."""
    control, settings, configuration = begin("script")
    _outlive_signals()
    output.redirect()
    options, script = configuration.gateway.script_options, configuration.script
    if script is None:
        raise RuntimeError("there is no script in this configuration")
    limit_memory(options.maximum_memory)
    registrations, turns = Registrations(), Turns(options)
    server = Server(socket_path(configuration.state_directory), registrations, turns)
    followers: list[ChangeFollower] = []
    threading.Thread(target=_stop_when_told, args=(control, followers), name="script-control", daemon=True).start()
    threading.Thread(target=turns.watch, name="script-turns", daemon=True).start()
    alarm = threading.Timer(options.load_timeout, _give_up_loading, (options.load_timeout,))
    alarm.daemon = True
    alarm.start()
    made = surroundings(settings, configuration, registrations, in_orthanc=settings.in_orthanc)
    try:
        in_this_process(lambda: load(script, make_module(made)))
    except CannotLoad as error:
        alarm.cancel()
        get_logger().error("the script cannot be loaded: what it might decide is refused", reason=str(error))
        server.fail(f"the script cannot be loaded: {error}")
        time.sleep(LOAD_RETRY_S)
        os._exit(EXIT_REPLACE)
    alarm.cancel()
    default, case_sensitive_pn = (
        of_orthanc(configuration.orthanc.default_encoding),
        configuration.orthanc.case_sensitive_pn,
    )
    handlers = Handlers(registrations, default, case_sensitive_pn=case_sensitive_pn)
    server.open(handlers.by_kind())
    names = [registration.name for kind in registrations.kinds if (registration := registrations.of(kind))]
    get_logger().info("the script is loaded", file=script.name, callbacks=", ".join(sorted(names)) or "none")
    if registrations.on_change is not None:
        source = partial(logged, made.rest)
        if settings.events_fd is not None:
            source = partial(relayed, socket.socket(fileno=settings.events_fd))
        followers.append(ChangeFollower(source, registrations.on_change))
        followers[0].start()
    threading.Event().wait()


def _outlive_signals() -> None:
    """Signals stay the supervisor's, but SIG_IGN would pass to what a script starts, and nobody could end that."""
    ours = (signal.SIGINT, signal.SIGTERM)
    for number in ours:
        signal.signal(number, lambda _number, _frame: None)

    def set_default() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)

    # A signal that arrives before that in a child waits for it.
    os.register_at_fork(
        before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, ours),
        after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, ours),
        after_in_child=set_default,
    )


def _stop_when_told(control: socket.socket, followers: list[ChangeFollower]) -> None:
    if until_stopped(control):  # else the supervisor is dead
        for follower in followers:
            follower.stop()
    os._exit(0)


def _give_up_loading(limit_s: float) -> None:
    get_logger().error("the script takes too long to load and is started again", seconds=limit_s)
    os._exit(EXIT_REPLACE)


if __name__ == "__main__":
    main()
