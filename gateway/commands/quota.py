"""`dicom-gateway quota`: the roof towards a person who wants to know who has how much."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.common import ConfigurationOption, fail, load
from gateway.commands.readable import Listing
from gateway.options.config import Configuration
from gateway.quotas.accounts import TOTAL
from gateway.quotas.entries import identifier
from gateway.quotas.gate import Gate
from gateway.quotas.identity import gateway_identity
from gateway.quotas.rules import Rule, counting_rules

if TYPE_CHECKING:
    from gateway.quotas.overview import Line

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

app = typer.Typer(no_args_is_help=True, help="Quotas: what is used of each rule, and by whom.")


@app.command("list")
def list_quotas(configuration: ConfigurationOption) -> None:
    """List the rules with their use and limits, the sources of each, and its fullest study."""
    loaded = load(configuration)[1]
    # Imported here, as below: the other commands need no database.
    from gateway import database
    from gateway.quotas.overview import overview

    table = Listing("rule", "source", "instances", "of", "bytes", "of", "leased", "window")
    try:
        for line in overview(database.connect(loaded), _rules(loaded)):
            table.add_row(*_row(line))
    except database.DatabaseError as error:
        raise fail(f"cannot read the database: {error}") from error
    table.print()


@app.command()
def reset(
    names: Annotated[list[str], typer.Argument(help="Rules as `quota list` shows them.", show_default=False)],
    configuration: ConfigurationOption,
) -> None:
    """Forget what a rule has counted: it begins anew, and what is stored now counts for it no more."""
    loaded = load(configuration)[1]
    from gateway import database
    from gateway.quotas import overview

    rules = {rule.title: rule for rule in _rules(loaded) if not rule.measured}
    for name in names:
        if name not in rules:
            raise fail(f"there is no rule {name!r} that counts")
    try:
        for name in names:
            overview.reset(database.connect(loaded), rules[name])
            print(f"{name}: counts anew")
    except database.DatabaseError as error:
        raise fail(f"cannot change the database: {error}") from error
    Gate(loaded.state_directory).look()


def give_back(configuration: Configuration, names: Sequence[str]) -> None:
    """Files of these names were deleted from the spool: they count no more, whether the gateway runs or not."""
    if not configuration.gateway.quotas.counts or not names:
        return
    rows = [identifier(name) for name in names]
    if Gate(configuration.state_directory).release(rows):
        return
    from gateway import database
    from gateway.quotas.holdings import Holdings
    from gateway.quotas.ledger import Ledger

    try:
        books = database.connect(configuration)
        ledger = Ledger(books, _rules(configuration), gateway_identity(configuration.state_directory))
        Holdings(books, ledger).release(rows)
    except database.DatabaseError as error:
        raise fail(f"the quotas will notice at the next start of the gateway: {error}") from error


def _rules(configuration: Configuration) -> list[Rule]:
    if not configuration.gateway.quotas.counts:
        raise fail("no rule in DicomGateway.Quotas counts anything")
    try:
        return counting_rules(configuration, gateway_identity(configuration.state_directory))
    except OSError as error:
        text = f"{configuration.state_directory}: {error.strerror}: run this as the user of the gateway"
        raise fail(text) from error


def _row(line: "Line") -> list[str]:
    rule, is_study = line.rule, line.study != TOTAL
    source = "/".join(line.source) if line.source is not None else f"study {line.study}" if is_study else ""
    is_rule = line.source is None and not is_study
    limits = (rule.maximum_instances, rule.maximum_bytes) if is_rule else (None, None)
    if is_study:
        limits = (rule.maximum_instances_per_study, None)
    return [
        rule.title if is_rule else "",
        source,
        str(line.used.instances) if not rule.measured or rule.maximum_instances is not None else "",
        str(limits[0]) if limits[0] is not None else "",
        _size(line.used.bytes) if not rule.measured or rule.maximum_bytes is not None else "",
        _size(limits[1]) if limits[1] is not None else "",
        _leased(line) if is_rule else "",
        _duration(rule.window_ns // 10**9) if is_rule and rule.window_ns is not None else "",
    ]


def _leased(line: "Line") -> str:
    parts = [str(line.leased.instances)] if line.leased.instances else []
    return " + ".join(parts + ([_size(line.leased.bytes)] if line.leased.bytes else []))


def _size(size: int) -> str:
    value, units = float(size), list(_UNITS)
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "B" else f"{size} B"


def _duration(seconds: int) -> str:
    for unit, length in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
