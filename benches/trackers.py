#!/usr/bin/env python3
"""Measures how much longer a run takes with all trackers on than with none.

Usage: benches/trackers.py [--rlvr PROGRAM] [--pairs N] [--steps N] [--mlflow ADDRESS]

Runs the demonstration in pairs, with TensorBoard and MLflow on and with both off, in alternating order, and compares the two halves of each
pair: the seconds of the run (`perf/elapsed_s` of the last step), and the computing time of its process. Prints the mean ratios with their 95%
intervals, after one pair that does not count. The target is a ratio below 1.01. Without --mlflow, it starts `mlflow server` from the
environment of scripts/check_trackers.py. Needs Linux with `taskset` and at least two cores: the server runs on the last core, and
both runs of a pair on the others.
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))

from paired import MOST_PAIRS, ratio  # noqa: E402
from trackers.processes import ROOT, environment, free_port, mlflow_server  # noqa: E402

CORES = sorted(os.sched_getaffinity(0))


def measured(rlvr, folder, name, steps, sets):
    """Runs the demonstration. Returns its seconds, and the seconds of computing time of the process."""
    run = folder / name
    cores = ",".join(map(str, CORES[:-1]))
    command = ["taskset", "--cpu-list", cores, rlvr, "train", "--steps", str(steps), "--out", run, "--set", "eval.benchmarks="]
    command += [part for setting in sets for part in ("--set", setting)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and "not delivered" not in done.stderr, done.stderr
    elapsed = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["perf/elapsed_s"]
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", type=pathlib.Path, default=ROOT / "target/release/rlvr")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--mlflow", metavar="ADDRESS")
    arguments = parser.parse_args()
    if not 2 <= arguments.pairs <= MOST_PAIRS:
        parser.error(f"--pairs must be from 2 to {MOST_PAIRS}")
    if len(CORES) < 2:
        parser.error("found one core, expected at least two: one is for the server")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        port = free_port()
        pinned = ["taskset", "--cpu-list", str(CORES[-1])]
        server = None if arguments.mlflow else mlflow_server(folder, port, pinned)
        try:
            measure(arguments, folder, arguments.mlflow or f"http://127.0.0.1:{port}")
        finally:
            if server:
                server.stop()


def measure(arguments, folder, address):
    kinds = {"on": [f"tracking.mlflow={address}"], "off": ["tracking.mlflow=off", "tracking.tensorboard=false"]}
    times, computing = [], []
    for pair in range(arguments.pairs + 1):
        order = ["on", "off"] if pair % 2 == 0 else ["off", "on"]
        on, off = (
            measured(arguments.rlvr.resolve(), folder, f"{pair}-{kind}", arguments.steps, kinds[kind]) for kind in order
        )
        if pair % 2:
            on, off = off, on
        if pair == 0:
            continue
        times.append(on[0] / off[0])
        computing.append(on[1] / off[1])
        print(f"pair {pair}: {on[0]:.2f} s with trackers, {off[0]:.2f} s without; computing {on[1]:.2f} s, {off[1]:.2f} s", flush=True)
    print_ratio("time with trackers / without", times)
    print_ratio("computing time with trackers / without", computing)


def print_ratio(name, ratios):
    mean, half = ratio(ratios)
    print(f"{name}: {mean:.4f} (95% interval {mean - half:.4f} to {mean + half:.4f}, {len(ratios)} pairs)")


if __name__ == "__main__":
    main()
