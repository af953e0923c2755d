"""The gateway's script for Orthanc's Python plugin: name it as `PythonScript`, set `"DicomServerEnabled": false`.

At ORTHANC_STARTED it starts the gateway as a child process of its own virtual environment, at ORTHANC_STOPPED it drains
and stops it. In between it puts the gateway's log lines into Orthanc's log, lends `orthanc.RestApiPost` to the
forwarder, says when a study is stable, with quotas tells what Orthanc deletes, and answers /storage-commitment/{uid}
(orthanc_commitment.py). It loads the user's own scripts (`OrthancScripts`; orthanc_scripts.py), or one of them is
`PythonScript` and imports it. The three files need nothing but the standard library, so that the environment's packages
never meet those of scripts, and no function that plugin 4.0 lacks.

SPDX-License-Identifier: AGPL-3.0-or-later
"""

import contextlib
import json
import os
import pathlib
import queue
import socket
import subprocess
import threading
import time

import orthanc

import orthanc_commitment
import orthanc_scripts

FIRST_RESTART_DELAY_S = 1.0
LAST_RESTART_DELAY_S = 60.0
HEALTHY_LIFE_S = 60.0
# Longer than the gateway's own ShutdownTimeout and what it adds to it.
STOP_GRACE_S = 30.0
MAXIMUM_POST_BYTES = 128 * 1024 * 1024
# Identifiers of deleted instances in one packet (44 bytes each).
MAXIMUM_DELETIONS = 500
# Events that wait for the script of the gateway, and deletions that wait for the keeper of its quotas; when it does not
# run, the later ones are lost.
MAXIMUM_EVENTS = 10_000
MAXIMUM_WAITING_DELETIONS = 100_000

DEFAULT_STATE_DIRECTORY = "/var/lib/dicom-gateway"

LOG_BY_LEVEL = {"E": orthanc.LogError, "W": orthanc.LogWarning, "I": orthanc.LogInfo, "D": orthanc.LogInfo}


def configuration_directory():
    """The folder that relative paths of the configuration refer to: that of Orthanc's configuration file."""
    arguments = pathlib.Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
    paths = [pathlib.Path(os.fsdecode(a)) for a in arguments if not a.startswith(b"-")]
    if not paths:
        return pathlib.Path.cwd()
    path = paths[-1].absolute()
    return path if path.is_dir() else path.parent


def virtual_environment(section, base_directory):
    """The Python interpreter of the gateway's environment."""
    configured = section.get("VirtualEnv") if isinstance(section, dict) else None
    folder = pathlib.Path(__file__).absolute().parent / ".venv"
    if isinstance(configured, str):
        folder = base_directory / configured
    return folder / "bin" / "python"


def state_directory():
    """The folder with the gateway's sockets."""
    configured = SECTION.get("StateDirectory") if isinstance(SECTION, dict) else None
    return BASE_DIRECTORY / (configured if isinstance(configured, str) else DEFAULT_STATE_DIRECTORY)


class Gateway:
    """The child process and the threads that serve it."""

    def __init__(self, configuration, base_directory):
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process = None
        self._control = None
        self._thread = None
        self._studies = None
        # Whether it has listened since Orthanc started.
        self._has_served = False
        self._configuration = configuration
        self._base_directory = base_directory
        # Now, not when it is needed: Orthanc takes a lock for it under which it calls scripts once it receives.
        self._authorization = orthanc.GenerateRestApiAuthorizationToken()
        # What Orthanc deleted, while a gateway with quotas wants to know.
        self.deletions = None
        # All that happens in Orthanc, while a gateway with a script wants to know.
        self.events = None

    def start(self):
        """Start the gateway in the background; what goes wrong is said in Orthanc's log."""
        self._thread = threading.Thread(target=self._run, name="dicom-gateway")
        self._thread.start()

    def stop(self):
        """Drain and stop the gateway; return when it has ended."""
        with self._lock:
            self._stopping.set()
            process, control = self._process, self._control
            if control is not None:
                with contextlib.suppress(OSError):
                    control.send(b'{"stop": true}\n')
        if process is not None:
            try:
                process.wait(self._stop_timeout())
            except subprocess.TimeoutExpired:
                orthanc.LogError("DICOM gateway: does not stop and is killed")
                process.kill()
        if self._thread is not None:
            self._thread.join()

    def tell_stable_study(self):
        """Wake who reads Orthanc's changes. When he is behind with it he will see this one, too."""
        studies = self._studies
        if studies is not None:
            with contextlib.suppress(OSError):
                studies.send(b"1", socket.MSG_DONTWAIT)

    def _stop_timeout(self):
        section = self._configuration.get("DicomGateway")
        seconds = section.get("ShutdownTimeout") if isinstance(section, dict) else None
        return STOP_GRACE_S + (seconds if isinstance(seconds, (int, float)) else 10)

    def _run(self):
        python = virtual_environment(self._configuration.get("DicomGateway"), self._base_directory)
        if not python.exists():
            self._give_up(f"{python} does not exist: run 'make install', or set DicomGateway.VirtualEnv")
            return
        settings = {
            "content": self._configuration,
            "base_directory": str(self._base_directory),
            "authorization": self._authorization,
            "is_changed_on_arrival": CALLBACKS.change_received,
            "is_script_in_orthanc": CALLBACKS.runs_gateway_script,
            "orthanc_pid": os.getpid(),
        }
        lends_posts = self._may_lend_posts()
        delay = FIRST_RESTART_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                reason = self._run_once(python, settings, lends_posts)
            except OSError as error:
                reason = f"no descriptors for it: {error}"
            if self._stopping.is_set():
                return
            if reason is not None and not self._has_served:
                self._give_up(reason)
                return
            if time.monotonic() - started > HEALTHY_LIFE_S:
                delay = FIRST_RESTART_DELAY_S
            # It could run a moment ago: a database that is away, or a port that is taken, is no reason to end a PACS.
            what = "ended unexpectedly" if reason is None else f"cannot start: {reason}"
            orthanc.LogError(f"DICOM gateway: {what}, starts again in {delay:g} s")
            self._stopping.wait(delay)
            delay = min(LAST_RESTART_DELAY_S, delay * 2)

    def _may_lend_posts(self):
        """Whether the forwarder is to post through us: as it is configured, unless that could hang Orthanc."""
        section = self._configuration.get("DicomGateway")
        forwarding = section.get("Forwarding") if isinstance(section, dict) else None
        if not isinstance(forwarding, dict) or forwarding.get("Transport") != "Plugin":
            return False
        reason = CALLBACKS.why_not_to_post()
        if reason:
            orthanc.LogWarning(
                'DICOM gateway: instances are sent over HTTP in spite of Forwarding.Transport "Plugin", with which '
                f"Orthanc could hang because of {reason}"
            )
        return not reason

    def _run_once(self, python, settings, lends_posts):
        """One life of the child; the reason when it says that it cannot run."""
        control, their_control = socket.socketpair()
        posts, their_posts = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        changes, their_changes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        studies, their_studies = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        events, their_events = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs = (their_control, their_posts, their_changes, their_studies, their_events)
        fds = tuple(end.fileno() for end in theirs)
        with control, posts, changes, studies, events:
            with their_control, their_posts, their_changes, their_studies, their_events:
                try:
                    process = subprocess.Popen(
                        [str(python), "-I", "-m", "gateway.supervisor"],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        pass_fds=fds,
                        # Ctrl-C in a terminal is for Orthanc, which then tells us to drain.
                        start_new_session=True,
                    )
                except OSError as error:
                    return f"cannot start {python}: {error}"
            threading.Thread(target=relay_log, args=(process.stderr,), daemon=True).start()
            if lends_posts:
                threading.Thread(target=lend_rest_api_post, args=(posts,), daemon=True).start()
            if self._has("Quotas"):
                self.deletions = queue.Queue(MAXIMUM_WAITING_DELETIONS)
                threading.Thread(target=tell_deletions, args=(self.deletions, changes), daemon=True).start()
            if self._has("Script"):
                self.events = queue.Queue(MAXIMUM_EVENTS)
                threading.Thread(target=tell_events, args=(self.events, events), daemon=True).start()
            self._studies = studies
            with self._lock:
                self._process, self._control = process, control
                stopping = self._stopping.is_set()
            with contextlib.suppress(BrokenPipeError):
                post_fd = fds[1] if lends_posts else None
                descriptors = {"control_fd": fds[0], "post_fd": post_fd, "changes_fd": fds[2], "studies_fd": fds[3]}
                descriptors["events_fd"] = fds[4]
                process.stdin.write(json.dumps({**settings, **descriptors}).encode())
                process.stdin.close()
            if stopping:
                with contextlib.suppress(OSError):
                    control.send(b'{"stop": true}\n')
            reason = self._listen(control)
            process.wait()
            with self._lock:
                self._control = None
            for waiting, connection in ((self.deletions, changes), (self.events, events)):
                if waiting is not None:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    with contextlib.suppress(queue.Full):
                        waiting.put_nowait(None)
            self.deletions = self.events = None
            with contextlib.suppress(OSError):
                posts.shutdown(socket.SHUT_RDWR)
        return reason

    def tell_deletion(self, instance):
        """Tell the keeper of the quotas that an instance was deleted; Orthanc never waits for it."""
        deletions = self.deletions
        if deletions is not None:
            with contextlib.suppress(queue.Full):
                deletions.put_nowait(instance)

    def tell_event(self, change, level, resource):
        """Relay an event to the script of the gateway; Orthanc never waits for it."""
        events = self.events
        if events is not None:
            with contextlib.suppress(queue.Full):
                events.put_nowait((change, level, resource))

    def _has(self, option):
        section = self._configuration.get("DicomGateway")
        return isinstance(section, dict) and bool(section.get(option))

    def _listen(self, control):
        """What the supervisor says until it ends; the reason when that is fatal."""
        reason = None
        with contextlib.suppress(ConnectionResetError), control.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if message["state"] == "fatal":
                    reason = message["reason"]
                elif message["state"] == "ready":
                    self._has_served = True
                    # At the level at which Orthanc reports its own servers: seen without --verbose.
                    orthanc.LogWarning(f"DICOM gateway: {message['text']}")
        return reason

    def _give_up(self, reason):
        """As Orthanc's own SCP does: say why, and end."""
        orthanc.LogError(f"DICOM gateway: cannot start: {reason}. Orthanc shuts down.")
        orthanc.RestApiPost("/tools/shutdown", "")


def relay_log(stream):
    """Put the gateway's lines, each with its level, into Orthanc's log."""
    with stream:
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\n")
            level, _, message = text.partition(" ")
            if level in LOG_BY_LEVEL and message:
                LOG_BY_LEVEL[level](f"DICOM gateway: {message}")
            else:
                orthanc.LogWarning(f"DICOM gateway: {text}")


def lend_rest_api_post(connection):
    """Post what the forwarder sends through the descriptor; answer in the same way (gateway.forwarding.transports)."""
    while True:
        try:
            packet, fds, _flags, _address = socket.recv_fds(connection, 4096, 1)
        except OSError:
            return
        if not packet or not fds:
            return
        request = json.loads(packet)
        with os.fdopen(fds[0], "rb") as body:
            content = os.pread(body.fileno(), min(request["size"], MAXIMUM_POST_BYTES), 0)
        error, answer = None, b""
        try:
            answer = orthanc.RestApiPost(request["uri"], content)
        except orthanc.OrthancException as exception:
            error = exception.args[0] if exception.args and isinstance(exception.args[0], int) else -1
        fd = os.memfd_create("answer")
        try:
            os.write(fd, answer)
            reply = {"number": request["number"], "error": error}
            socket.send_fds(connection, [json.dumps(reply).encode()], [fd])
        except OSError:
            return
        finally:
            os.close(fd)


def tell_deletions(deletions, connection):
    """Send the identifiers of deleted instances, many together; what is lost is found when Orthanc is compared."""
    while True:
        packet = [deletions.get()]
        while len(packet) < MAXIMUM_DELETIONS and not deletions.empty():
            packet.append(deletions.get())
        try:
            connection.send("\n".join(filter(None, packet)).encode() or b"\n")
        except OSError:
            return
        if None in packet:
            return


def tell_events(events, connection):
    """Send events, a packet for each, until there is nobody to send them to."""
    while (event := events.get()) is not None:
        try:
            connection.send(json.dumps(event).encode())
        except OSError:
            return


CONFIGURATION = json.loads(orthanc.GetConfiguration())
SECTION = CONFIGURATION.get("DicomGateway")
BASE_DIRECTORY = configuration_directory()
GATEWAY = Gateway(CONFIGURATION, BASE_DIRECTORY)


def on_change(change, level, resource):
    """Orthanc's life cycle, stable studies, and what it deletes: of a study or a patient also each instance."""
    if change == orthanc.ChangeType.DELETED:
        if level == orthanc.ResourceType.INSTANCE:
            GATEWAY.tell_deletion(resource)
    elif change == orthanc.ChangeType.STABLE_STUDY:
        GATEWAY.tell_stable_study()
    elif change == orthanc.ChangeType.ORTHANC_STARTED:
        GATEWAY.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        GATEWAY.stop()
    if change not in (orthanc.ChangeType.ORTHANC_STARTED, orthanc.ChangeType.ORTHANC_STOPPED):
        GATEWAY.tell_event(change, level, resource)


CALLBACKS = orthanc_scripts.Callbacks(on_change, orthanc_scripts.gateway_script(SECTION, BASE_DIRECTORY))
CALLBACKS.take_over()
orthanc_commitment.StorageCommitment(state_directory()).register()
orthanc_scripts.load_all(orthanc_scripts.script_paths(SECTION, BASE_DIRECTORY))
