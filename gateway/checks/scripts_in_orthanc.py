"""What `dicom-gateway check` says of the scripts that run inside Orthanc (`OrthancScripts`). None of them is run."""

import ast
from collections.abc import Iterator

from gateway.checks.lines import Line
from gateway.options.config import Configuration


def describe_orthanc_scripts(configuration: Configuration) -> Iterator[Line]:
    """Yield a line for each script, which says why if Orthanc could not load it."""
    for path in configuration.orthanc_scripts:
        try:
            ast.parse(path.read_bytes(), str(path))
        except OSError as error:
            yield Line(f"OrthancScripts: cannot read {path}: {error.strerror}", ok=False)
        except (SyntaxError, ValueError) as error:
            place = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
            yield Line(f"OrthancScripts: {path} is no Python file: {place}", ok=False)
        else:
            yield Line(f"script {path} runs inside Orthanc")
