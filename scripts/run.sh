#!/usr/bin/env bash
# make run: installs what is missing, then runs Orthanc with the gateway until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh
exec .venv/bin/python scripts/run_orthanc.py
