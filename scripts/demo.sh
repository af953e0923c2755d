#!/usr/bin/env bash
# make demo: sends sample images to the gateway that make run started, and lists Orthanc's studies.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh
exec .venv/bin/python scripts/send_samples.py
