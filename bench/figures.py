"""Figures: what a case reports, by name."""

import statistics

Figures = dict[str, float]


def percentiles(times_ms: list[float]) -> Figures:
    ordered = sorted(times_ms)
    return {"p50_ms": statistics.median(ordered), "p95_ms": ordered[int(0.95 * (len(ordered) - 1))]}
