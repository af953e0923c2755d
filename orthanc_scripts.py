"""Several Python scripts in one Orthanc: callbacks of Orthanc's Python plugin, shared among them, and their loading.

The plugin loads one script and takes one callback of each kind. Here its functions are replaced before any script of a
user is loaded, so that the gateway and all scripts hear what happens in Orthanc, and no callback runs twice: those for
DICOM run in the gateway (`DicomGateway.Script`), all others here. Nothing but the standard library is needed.

SPDX-License-Identifier: AGPL-3.0-or-later
"""

import importlib.machinery
import importlib.util
import os
import pathlib
import re
import sys
import traceback

import orthanc

# Orthanc calls these for its own DICOM server, which is off. Those with a number, and storage commitment, came after
# plugin 4.0; a file that is loaded by the gateway too must not fail here because of them.
DICOM_CALLBACKS = (
    "RegisterFindCallback",
    "RegisterFindCallback2",
    "RegisterIncomingCStoreInstanceFilter",
    "RegisterMoveCallback",
    "RegisterMoveCallback2",
    "RegisterMoveCallback3",
    "RegisterStorageCommitmentScpCallback",
    "RegisterStorageCommitmentScpCallback2",
    "RegisterWorklistCallback",
    "RegisterWorklistCallback2",
)

# Nobody waits for what these return: every script may have its own.
NOTIFICATIONS = ("RegisterOnChangeCallback", "RegisterOnStoredInstanceCallback")

# These decide: there can be one. Without it Orthanc would let in, keep or misplace what it must not.
DECISIONS = (
    "RegisterIncomingHttpRequestFilter",
    "RegisterReceivedInstanceCallback",
    "RegisterStorageArea",
    "RegisterStorageArea3",
)

# Orthanc calls these with a lock held that it also takes to store what is posted in-process. The plugin (before 4.3,
# or without AllowThreads) keeps Python's interpreter lock meanwhile: each side can have one and wait for the other.
CALLED_UNDER_A_LOCK = ("RegisterOnStoredInstanceCallback", *(n for n in DECISIONS if "Http" not in n))


class Callbacks:
    """What has been registered inside Orthanc, and where."""

    def __init__(self, on_change, gateway_script):
        """`on_change` is called before those of scripts. `gateway_script`: `DicomGateway.Script`, or None."""
        self._on_change = on_change
        self._gateway_script = gateway_script
        self._original = {name: getattr(orthanc, name, None) for name in (*NOTIFICATIONS, *DECISIONS)}
        self._listeners = {name: [] for name in NOTIFICATIONS}
        # Name of the function, and the file that called it.
        self._registered = []
        self._posts_are_lent = False

    def take_over(self):
        """Replace the plugin's functions; what is registered from now on is registered here."""
        for name in DICOM_CALLBACKS:
            setattr(orthanc, name, self._ignoring(name))
        for name in NOTIFICATIONS:
            setattr(orthanc, name, self._sharing(name))
        for name in DECISIONS:
            if self._original[name] is not None:
                setattr(orthanc, name, self._deciding(name))
        try:
            self._listen("RegisterOnChangeCallback", self._on_change, __file__)
        except RuntimeError as error:
            raise RuntimeError("import orthanc_glue before anything is registered with Orthanc") from error

    @property
    def change_received(self):
        """Whether a script may change what Orthanc stores."""
        return any(name == "RegisterReceivedInstanceCallback" for name, _where in self._registered)

    @property
    def runs_gateway_script(self):
        """Whether the file that the gateway runs is loaded here too."""
        return _is_loaded(self._gateway_script)

    def why_not_to_post(self):
        """Which callbacks make it unsafe to post in-process, "" if none; from then on none of them is taken."""
        found = [f"{name} in {where}" for name, where in self._registered if name in CALLED_UNDER_A_LOCK]
        self._posts_are_lent = not found
        return ", ".join(found)

    def _ignoring(self, name):
        def register(*_callbacks):
            where = _caller()
            text = f"DICOM gateway: {name} in {where} is ignored inside Orthanc: "
            if _same_file(where, self._gateway_script):
                orthanc.LogInfo(text + "the gateway calls it (DicomGateway.Script)")
            else:
                orthanc.LogWarning(text + "only the gateway calls it, if the file is DicomGateway.Script")

        return register

    def _sharing(self, name):
        def register(callback):
            where = _caller()
            self._check_lock(name)
            self._listen(name, callback, where)
            self._registered.append((name, where))

        return register

    def _deciding(self, name):
        def register(*callbacks):
            where = _caller()
            first = next((file for other, file in self._registered if _kind(other) == _kind(name)), None)
            if first is not None:
                raise RuntimeError(f"{name}: Orthanc takes one, and {first} has registered it")
            self._check_lock(name)
            self._original[name](*callbacks)
            self._registered.append((name, where))

        return register

    def _check_lock(self, name):
        if self._posts_are_lent and name in CALLED_UNDER_A_LOCK:
            raise RuntimeError(f'{name}: with Forwarding.Transport "Plugin" only while Orthanc loads its scripts')

    def _listen(self, name, callback, where):
        listeners = self._listeners[name]
        listeners.append((where, callback))
        if len(listeners) > 1:
            return

        def call(*arguments):
            for place, listener in tuple(listeners):
                try:
                    listener(*arguments)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - a script's outermost boundary: others go on
                    kind = name.removeprefix("Register")
                    orthanc.LogError(f"DICOM gateway: {kind} in {place} failed: {_said(error)}")

        self._original[name](call)


def load_all(paths):
    """Run the files in Orthanc's interpreter, each as a module of its own. One that fails does not stop the others.

    Raises RuntimeError at the end, which ends Orthanc, if one has failed that was to decide what Orthanc does.
    """
    needed = []
    for path in paths:
        try:
            _load(path)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a script's outermost boundary: others go on
            orthanc.LogError(f"DICOM gateway: cannot load {path} (DicomGateway.OrthancScripts): {_said(error)}")
            needed += [f"{name} in {path}" for name in _decisions_in(path)]
    if needed:
        raise RuntimeError(f"DICOM gateway: Orthanc must not run without {', '.join(needed)}")


def _load(path):
    if _is_loaded(path):
        orthanc.LogWarning(f"DICOM gateway: {path} (DicomGateway.OrthancScripts) is loaded already")
        return
    name, folder = _free_name(path), str(path.parent)
    if folder not in sys.path:
        # Not first, where the plugin has its script's: `random.py` beside one script must not be Python's for all.
        sys.path.append(folder)
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    # As a package, so that `from . import` finds the files beside it.
    spec = importlib.util.spec_from_file_location(name, path, loader=loader, submodule_search_locations=[folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _is_loaded(path):
    return any(_same_file(getattr(module, "__file__", None), path) for module in tuple(sys.modules.values()))


def _free_name(path):
    """The file's own name, unless another module has it: neither Python's nor the script of another folder."""
    stem = path.stem.replace(".", "_")
    name, number = stem, 1
    while name in sys.modules or _finds_another(name, path):
        number += 1
        name = f"{stem}_{number}"
    return name


def _finds_another(name, path):
    spec = importlib.util.find_spec(name)
    return spec is not None and not _same_file(spec.origin, path)


def _decisions_in(path):
    """Which of the DECISIONS a file speaks of."""
    try:
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return []
    return [name for name in DECISIONS if name in words]


def _kind(name):
    """RegisterStorageArea3 is a later form of RegisterStorageArea."""
    return name.rstrip("3")


def _same_file(one, other):
    return one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other)


def _caller():
    """The file that has called one of the replaced functions."""
    return sys._getframe(2).f_code.co_filename


def _said(error):
    """An exception in one line, with the innermost place in a script."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _same_file(frame.filename, __file__)]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' * bool(text)}{text}{place}"


def script_paths(section, base_directory):
    """The files of `OrthancScripts`, none if the option is wrong: the gateway then refuses its configuration."""
    names = section.get("OrthancScripts") if isinstance(section, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return [pathlib.Path(base_directory, name) for name in names]


def gateway_script(section, base_directory):
    """The path of `DicomGateway.Script`, if there is one."""
    name = section.get("Script") if isinstance(section, dict) else None
    return pathlib.Path(base_directory, name) if isinstance(name, str) else None
