#!/usr/bin/env python3
"""Compares the training of the embedded model by several processes with that by as many workers (threads) of one process.

Usage: benches/processes.py [--rlvr PROGRAM] [--count 2] [--pairs N] [--steps N]

A run without evaluations starts once with each way in every round, in rotating order: one process, and COUNT processes under Open MPI and
MPICH, which scripts/mpi.sh installs. Compares seconds per step (`perf/elapsed_s` from the first step to the last) and of the whole command
with those of the one process in the same round, and prints a Markdown table of mean ratios with their 95% intervals, after a round that does
not count. All weights must be the same bits. At last it prints what `rlvr bench exchange` measures for a gradient of the model's size.
Processes and workers get the same cores: as many as COUNT.
"""
import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))

from check_mpi import ROOT, installed  # noqa: E402
from paired import MOST_PAIRS, ratio  # noqa: E402

CORES = sorted(os.sched_getaffinity(0))
# The embedded model's gradient in f32, rounded up to a megabyte.
GRADIENT_MB = 1


def measured(command, cores, folder, steps):
    """Returns the seconds per step, those of the whole command, and the hash of the last weights."""
    words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command, "train", "--out", folder]
    words += ["--steps", steps, "--set", "train.shards=8", "--set", "eval.benchmarks="]
    started = time.monotonic()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    elapsed = [json.loads(line)["perf/elapsed_s"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = (folder / f"checkpoints/{steps:05}/model.safetensors").read_bytes()
    return (elapsed[-1] - elapsed[0]) / (len(elapsed) - 1), seconds, hashlib.sha256(weights).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", type=pathlib.Path, default=ROOT / "target/release/rlvr")
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    if not 2 <= args.pairs <= MOST_PAIRS:
        parser.error(f"--pairs must be from 2 to {MOST_PAIRS}")
    if len(CORES) < args.count:
        parser.error(f"found {len(CORES)} cores, expected at least {args.count}")
    cores, program, mpis = CORES[:args.count], args.rlvr.resolve(), installed()
    ways = {"1 process": [program]} | {f"{args.count} processes, {mpi.name}": [*mpi.mpirun, "-n", args.count, program] for mpi in mpis}
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.pairs + 1):
            order = list(ways)[number % len(ways):] + list(ways)[:number % len(ways)]
            times = {way: measured(ways[way], cores, pathlib.Path(folder) / f"{number}-{list(ways).index(way)}", args.steps) for way in order}
            assert len({weights for _, _, weights in times.values()}) == 1, times
            print(f"round {number}: " + "; ".join(f"{way} {times[way][0] * 1000:.1f} ms/step, {times[way][1]:.2f} s" for way in ways), flush=True)
            rounds += [times] if number else []
    print(f"all weights: {next(iter(times.values()))[2][:16]}")
    print("\n| way | ms per step | / 1 process | whole command (s) | / 1 process |\n|---|---|---|---|---|")
    for way in ways:
        cells = []
        for which, unit in ((0, 1000), (1, 1)):
            mean = sum(times[way][which] for times in rounds) / len(rounds) * unit
            center, half = ratio([times[way][which] / times["1 process"][which] for times in rounds])
            cells += [f"{mean:.4g}", "1" if way == "1 process" else f"{center:.3f} ± {half:.3f}"]
        print(f"| {way} | {' | '.join(cells)} |")
    for mpi in mpis:
        words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *mpi.mpirun, "-n", args.count, program]
        done = subprocess.run([str(word) for word in [*words, "bench", "exchange", "--mb", GRADIENT_MB]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        print(f"\n{mpi.name}, {GRADIENT_MB} MB:\n{done.stdout}", end="")


if __name__ == "__main__":
    main()
