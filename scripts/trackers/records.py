"""The values that a run recorded, and comparisons with what a tracker shows."""
import json
import math

from import_metrics import metrics_of


def recorded(run):
    """Returns {name: {step: number}} of metrics.jsonl and the base model; null is NaN."""
    columns = {}
    for step, metrics in metrics_of(run):
        for name, value in metrics.items():
            columns.setdefault(name, {})[step] = value
    return columns


def ensure_equal(what, found, expected, tolerance=0.0):
    """Compares {name: {step: number}}."""
    assert set(found) == set(expected), f"{what}: the names differ: {set(found) ^ set(expected)}"
    for name, column in expected.items():
        assert set(found[name]) == set(column), f"{what}: the steps of {name} differ: {sorted(found[name])}, expected {sorted(column)}"
        for step, value in column.items():
            same = found[name][step] == value or (math.isnan(value) and math.isnan(found[name][step]))
            same = same or abs(found[name][step] - value) <= tolerance * abs(value)
            assert same, f"{what}: {name} at step {step} is {found[name][step]}, expected {value}"
    print(f"  {what}: {sum(map(len, expected.values()))} values of {len(expected)} metrics are equal")
