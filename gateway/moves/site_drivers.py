"""Move drivers of a site: classes of its own, by called AE title (`DicomGateway.MoveDrivers`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

from gateway.archive.interface import Archive, Archives
from gateway.moves.archive_drivers import archive_driver
from gateway.moves.interface import MoveDriver, MoveDrivers, MoveRequest, Target
from gateway.options.config import Configuration
from gateway.options.orthanc_json import ConfigurationError

SiteDriver = Callable[[MoveRequest, Target, Archive], MoveDriver]
"""The class: made with the request, the target, and the archive of the called AE title."""


def move_drivers(configuration: Configuration, archives: Archives) -> MoveDrivers:
    """Each called AE title's archive sends what it has, unless the site names a class. Raises ConfigurationError."""

    def create(driver: SiteDriver, request: MoveRequest, target: Target) -> MoveDriver:
        return driver(request, target, archives.of(request.source_ae_title))

    drivers = {title: partial(create, driver) for title, driver in site_drivers(configuration).items()}
    return MoveDrivers(partial(archive_driver, archives), drivers, configuration.title_key)


def site_drivers(configuration: Configuration) -> dict[str, SiteDriver]:
    """The classes that the configuration names, by called AE title. Raises ConfigurationError."""
    names = configuration.gateway.move_drivers.items()
    return {title: _load(f"DicomGateway.MoveDrivers.{title}", name, configuration.path) for title, name in names}


def _load(option: str, name: str, path: Callable[[str], Path]) -> SiteDriver:
    module_name, _colon, class_name = name.rpartition(":")
    try:
        module = _module(path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # what a module of others does when it is loaded
        raise ConfigurationError(f"{option}: {name}: {type(error).__name__}: {error}") from error
    driver = getattr(module, class_name, None)
    missing = [method for method in ("size", "apply", "free") if not callable(getattr(driver, method, None))]
    if driver is None or missing:
        what = f"has no {', '.join(missing)}" if driver is not None else "is not there"
        raise ConfigurationError(f"{option}: {class_name} of {module_name} {what}")
    return cast(SiteDriver, driver)


def _module(file: Path) -> ModuleType:
    """A file as a module of its own name, so that two titles with the same file share it."""
    name = f"site_driver_{file.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
