#!/usr/bin/env python3
"""Compare the time per verdict of this program and of Math-Verify on the same pairs of a gold answer and a response.

Usage: compare_verifiers.py PAIRS.jsonl BENCH...
PAIRS has one line {"gold", "response"} per pair. BENCH is the command that measures this program, such as `cargo bench -q --bench verify --`; the
script appends PAIRS.jsonl to its arguments. Needs the package math-verify. Prints both programs' times and their ratio as one JSON line.
"""
import json
import statistics
import subprocess
import sys
import time


def math_verify_times_us(rows):
    """Returns the microseconds per pair, including parsing of both sides: the fastest of three runs."""
    from math_verify import parse, verify

    times = []
    for row in rows:
        fastest = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            try:
                verify(parse(f"${row['gold']}$"), parse(row["response"]))
            except Exception:  # the time of a failure also counts
                pass
            fastest = min(fastest, time.perf_counter() - start)
        times.append(fastest * 1e6)
    return times


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    path, command = sys.argv[1], sys.argv[2:]
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    printed = subprocess.run([*command, path], check=True, capture_output=True, text=True).stdout.splitlines()
    ours = json.loads(next(line for line in printed if line.startswith("{")))
    theirs = sorted(math_verify_times_us(rows))
    mean = statistics.fmean(theirs)
    result = {
        "pairs": len(rows),
        "ours_us": {key: ours[key] for key in ("median_us", "p99_us", "mean_us")},
        "math_verify_us": {
            "median_us": theirs[len(theirs) // 2],
            "p99_us": theirs[int((len(theirs) - 1) * 0.99)],
            "mean_us": mean,
        },
        "mean_ratio": mean / ours["mean_us"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
