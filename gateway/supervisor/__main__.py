"""Started by Orthanc's plugin: settings on standard input."""

import sys

from gateway.child import read_settings
from gateway.supervisor.supervisor import serve

if __name__ == "__main__":
    sys.exit(serve(read_settings()))
