"""A plain download of a study by WADO-RS: one request, read to its end and dropped. Prints its figures as JSON."""

import json
import sys
import time

import urllib3

from bench.processes import peak_mb

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PIECE_BYTES = 256 * 1024


def main() -> None:
    """`python -m bench.wado_client URL`."""
    pool = urllib3.PoolManager()
    started = time.perf_counter()
    response = pool.request("GET", sys.argv[1], headers={"Accept": ACCEPT}, preload_content=False, timeout=600.0)
    if response.status != 200:
        sys.exit(f"HTTP {response.status}")
    first_s, size = 0.0, 0
    while piece := response.read1(PIECE_BYTES):
        first_s = first_s or time.perf_counter() - started
        size += len(piece)
    all_s = time.perf_counter() - started
    print(json.dumps({"first_s": first_s, "all_s": all_s, "bytes": size, "peak_mb": peak_mb("self")}))


if __name__ == "__main__":
    main()
