"""Computes how long each kernel ran and how long the GPU idled before it, from a file written by src/kernels/cuda/activity.cpp.

    python3 scripts/gpu_kernels.py TIMES.tsv [BENCH.json]      prints a tab-separated table

With a report of `rlvr bench --json`, the table has one part per measurement: everything that ran between `began_unix_ns` and `ended_unix_ns`.
Without it, one part contains everything. The GPU is busy while at least one kernel, copy or fill runs, and idle otherwise. An idle period is
attributed to the kernel that ends it. Recording slightly slows down the launches of short kernels.
"""

import json
import pathlib
import sys
from dataclasses import dataclass, field

# Idle periods are counted by length. Up to 2 us is the cost of launching a queued kernel; in a longer one, the GPU waited for the host.
BOUNDS_US = (2, 5, 20)


@dataclass
class Kernel:
    """One kernel in one part; times are in microseconds."""

    name: str
    calls: int = 0
    busy_us: float = 0.0
    idle_us: float = 0.0
    idles: list = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    from_graphs: int = 0
    registers: int = 0
    shared_bytes: int = 0

    def mean_us(self):
        return self.busy_us / self.calls


@dataclass
class Part:
    """Everything that ran in one measurement."""

    name: str
    span_us: float
    busy_us: float
    kernels: list

    def idle_us(self):
        return self.span_us - self.busy_us

    def calls(self):
        return sum(kernel.calls for kernel in self.kernels)


def read(path):
    """Returns records (start, end, name, fields) sorted by start, in nanoseconds of the system's clock, and the number of lost records."""
    names, records, offset, lost = {}, [], 0, 0
    for line in path.read_text(errors="replace").splitlines():
        kind, *fields = line.split("\t")
        try:
            if kind == "clock":
                offset = int(fields[1]) - int(fields[0])
            elif kind == "name":
                names[fields[0]] = fields[1]
            elif kind == "lost":
                lost += int(fields[0])
            else:
                start, end = int(fields[1]), int(fields[2])
                records.append((start + offset, end + offset, names[fields[0]], fields[3:] if kind == "kernel" else []))
        except (IndexError, KeyError, ValueError):
            lost += 1  # the last line of a killed program may be incomplete
    records.sort(key=lambda record: record[:2])
    return records, lost


def measurement_spans(bench):
    """Returns name, start and end of each measurement in a report."""
    found = []
    for case in bench["cases"]:
        for line in case["measurements"]:
            name = case["name"] if line["work"].split(":")[0] in case["name"] else f"{case['name']} {line['work']}"
            found.append((name, line["began_unix_ns"], line["ended_unix_ns"]))
    return found


def summarize(name, records):
    """Sums up the records of one part; None if nothing ran."""
    if not records:
        return None
    kernels, busy_ns, busy_until = {}, 0, records[0][0]
    for start, end, kernel_name, fields in records:
        kernel = kernels.setdefault(kernel_name, Kernel(kernel_name))
        kernel.calls += 1
        kernel.busy_us += (end - start) / 1e3
        if fields:
            kernel.from_graphs += fields[1] != "0"
            kernel.registers, kernel.shared_bytes = int(fields[4]), max(kernel.shared_bytes, int(fields[5]))
        idle_us = (start - busy_until) / 1e3
        if idle_us > 0:
            kernel.idle_us += idle_us
            kernel.idles[sum(idle_us > bound for bound in BOUNDS_US)] += 1
        busy_ns += max(0, end - max(start, busy_until))
        busy_until = max(busy_until, end)
    ordered = sorted(kernels.values(), key=lambda kernel: -kernel.busy_us)
    return Part(name, (busy_until - records[0][0]) / 1e3, busy_ns / 1e3, ordered)


def parts(times, bench=None):
    """Returns the parts of a recording, and the number of lost records."""
    records, lost = read(times)
    if bench is None:
        return [part for part in [summarize("all", records)] if part], lost
    pieces = ((name, [record for record in records if began <= record[0] < ended]) for name, began, ended in measurement_spans(bench))
    return [part for part in (summarize(*piece) for piece in pieces) if part], lost


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: gpu_kernels.py TIMES.tsv [BENCH.json]")
    bench = json.loads(pathlib.Path(sys.argv[2]).read_text()) if len(sys.argv) == 3 else None
    found, lost = parts(pathlib.Path(sys.argv[1]), bench)
    edges = [f"idle_to_{bound}_us" for bound in BOUNDS_US] + [f"idle_over_{BOUNDS_US[-1]}_us"]
    print("part", "kernel", "calls", "from_graphs", "busy_us", "mean_us", "share_of_span", "idle_before_us", *edges, "registers", "shared_bytes", sep="\t")
    for part in found:
        print(part.name, "(all)", part.calls(), "", f"{part.busy_us:.1f}", "", f"{part.busy_us / part.span_us:.4f}", f"{part.idle_us():.1f}", sep="\t")
        for kernel in part.kernels:
            times = f"{kernel.busy_us:.1f}\t{kernel.mean_us():.2f}\t{kernel.busy_us / part.span_us:.4f}\t{kernel.idle_us:.1f}"
            counts = (*kernel.idles, kernel.registers, kernel.shared_bytes)
            print(part.name, kernel.name, kernel.calls, kernel.from_graphs, times, *counts, sep="\t")
    if lost:
        print(f"{lost} records were lost", file=sys.stderr)


if __name__ == "__main__":
    main()
