"""What `dicom-gateway check` says of the script."""

from collections.abc import Iterator

from gateway.checks.lines import Line
from gateway.child import Settings
from gateway.options.config import Configuration


def describe_script(settings: Settings, configuration: Configuration) -> Iterator[Line]:
    """Load it in a process of its own; say what it registers, and what it uses that is not offered."""
    script = configuration.script
    if script is None:
        return
    # Imported here: who has no script does not pay for it with time.
    from gateway.script_host.sandbox import inspect

    found = inspect(settings, configuration.gateway.script_options.load_timeout)
    if found.error:
        yield Line(f"script {script}: cannot be loaded: {found.error}", ok=False)
    else:
        yield Line(f"script {script}: {', '.join(found.registered) or 'registers no callback that is called here'}")
    for remark in found.remarks:
        yield Line(f"script {script.name}: {remark}")
