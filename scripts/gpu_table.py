"""Writes the report of scripts/gpu-check.sh from the files in its results folder: a short table.md for people and summary.json for programs.

    python3 scripts/gpu_table.py OUT

table.md lists failures first, then parts that did not run, then the speed compared with the targets and with PyTorch, then the time by kernel. It
omits sections whose file is missing, truncated or empty. Rates are response tokens per second.
"""

import json
import math
import os
import pathlib
import re
import sys
from collections import defaultdict

import gpu_kernels

# Targets for one GPU with the shape of Qwen2.5-Math-1.5B. They follow from ceilings measured on these GPUs (copies at 3.0 TB/s on the
# H100 and 4.3 TB/s on the H200, bf16 products at 770 to 800 TFLOP/s) and from the operations and bytes of each workload. `first` is the
# minimum target, `goal` is the speed of a good implementation, and `expected` is the sum of the minimum times of this program's operations,
# accurate to a quarter. None means that there is none. `first` and `goal` of rollouts were set for responses of 1,024 tokens, which cost more
# per token than the measured 800.
TARGET_SHAPE = "qwen2.5-math-1.5b"
TARGETS = [
    # case, workload, value, unit, whether higher is better, {card: (first, goal, expected)}
    ("full", "rollout", "tokens_per_s", "tokens/s", True, {"H100": (None, None, 72_000), "H200": (35_000, 65_000, 81_000)}),
    ("full", "update", "utilisation", "of the product ceiling", True, {"H100": (0.35, 0.50, None), "H200": (0.35, 0.50, None)}),
    ("full", "update", "median_s", "s", False, {"H100": (None, None, 27), "H200": (None, None, 22)}),
    ("full", "step", "median_s", "s", False, {"H100": (None, None, 44), "H200": (75, 40, 37)}),
    ("full", "step", "peak_gb", "GB", False, {"H100": (80, 60, None), "H200": (80, 60, None)}),
    ("lognormal", "rollout", "median_s", "s", False, {"H100": (None, None, 16.8), "H200": (None, None, 14.6)}),
    ("lognormal", "step", "median_s", "s", False, {"H100": (None, None, 44), "H200": (None, None, 37)}),
    ("decode-1024", "decode", "pass_ms", "ms per pass", False, {"H100": (None, None, 14.1), "H200": (None, None, 12.7)}),
    ("decode-32", "decode", "pass_ms", "ms per pass", False, {"H100": (3.3, 1.75, None), "H200": (3.3, 1.75, None)}),
    ("invariant", "rollout", "cost", "times the ordinary rollout", False, {"H100": (1.3, 1.0, None), "H200": (1.3, 1.0, None)}),
]
TOP_KERNELS = 15


def read_json(path):
    """Returns the parsed file; None if it is missing or truncated."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def rows_of(path):
    """Returns the rows of a tab-separated file; none if it is missing."""
    return [line.split("\t") for line in path.read_text(errors="replace").splitlines()] if path.exists() else []


def json_lines(path):
    """Returns PyTorch's measurements by workload."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["work"]: line for line in (json.loads(text) for text in lines if text.startswith("{") and text.endswith("}"))}


def number(text):
    """Returns the finite number that the text contains; None for other texts, as for a refused algorithm."""
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def rounded(number):
    """Formats a number to three significant digits."""
    if number is None:
        return ""
    if number == 0 or not math.isfinite(number):
        return f"{number}"
    return f"{number:,.{max(0, 2 - math.floor(math.log10(abs(number))))}f}"


class Table:
    """Markdown, line by line."""

    def __init__(self):
        self.lines = []

    def say(self, *texts):
        self.lines += texts

    def head(self, text):
        self.lines += ["", f"## {text}", ""]

    def rows(self, titles, rows):
        self.lines += [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
        self.lines += [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows]


def machine(folder, bench):
    """Describes the GPU, the machine and the build."""
    text = (folder / "machine.txt").read_text(errors="replace") if (folder / "machine.txt").exists() else ""
    found = dict((bench or {}).get("machine") or {})
    smi = re.search(r"^name,.*\n(.*)$", text, re.MULTILINE)
    if smi:
        fields = [field.strip() for field in smi.group(1).split(",")]
        found.setdefault("card", fields[0])
        found.setdefault("driver", fields[1])
    if commit := re.search(r"^commit\W+(\w+)", text, re.MULTILINE):
        found.setdefault("commit", commit.group(1))
    return found


def measurements(report):
    """Returns measurements by case and workload. `decode:20` becomes `decode`, with the time per pass."""
    found = {}
    for case in (report or {}).get("cases", []):
        for line in case["measurements"]:
            work, _, passes = line["work"].partition(":")
            line = dict(line, peak_gb=line["peak_bytes"] / 1e9 if line.get("peak_bytes") else None)
            if passes:
                line["pass_ms"] = line["median_s"] * 1e3 / int(passes)
            found[case["name"], work] = line
    for work in ("rollout", "update"):
        small, invariant = found.get(("small", work)), found.get(("invariant", work))
        if small and invariant:
            invariant["cost"] = invariant["median_s"] / small["median_s"]
    return found


def compare(card, found):
    """Compares the measurements with the GPU's targets."""
    compared = []
    for case, work, value, unit, more_is_better, cards in TARGETS:
        line = found.get((case, work))
        if line is None or line.get(value) is None:
            continue
        measured, (first, goal, expected) = line[value], cards[card]
        is_reached = lambda target: measured >= target if more_is_better else measured <= target
        if goal is not None and is_reached(goal):
            verdict = "goal reached"
        elif first is not None:
            verdict = "minimum reached" if is_reached(first) else "**minimum missed**"
        else:
            ratio = measured / expected if more_is_better else expected / measured
            verdict = "as expected" if ratio > 0.8 else f"**{1 / ratio:.1f} times slower than expected**"
        shown = {"what": f"{case} {work}", "measured": measured, "unit": unit, "first": first, "goal": goal, "expected": expected}
        compared.append(shown | {"verdict": verdict})
    return compared


def outcomes(folder, parts):
    """Returns all wrong outcomes, and the number of outcomes and the worst error by operation and dtype."""
    wrong, by_operation = [], defaultdict(lambda: {"count": 0, "worst": 0.0, "stock_worst": None})
    for part in parts:
        for row in rows_of(folder / f"{part}.tsv"):
            if len(row) < 9 or row[8] not in ("ok", "wrong", "error"):
                continue
            _, operation, shape, dtype, worst, _, stock_worst, _, verdict = row[:9]
            entry = by_operation[f"{operation}, {dtype}"]
            entry["count"] += 1
            entry["worst"] = max(entry["worst"], number(worst) or 0.0)
            if number(stock_worst) is not None:
                entry["stock_worst"] = max(entry["stock_worst"] or 0.0, number(stock_worst))
            if verdict != "ok":
                note = row[9] if len(row) > 9 else ""
                wrong.append({"part": part, "operation": operation, "shape": shape, "dtype": dtype, "worst": worst, "verdict": verdict, "note": note})
    return wrong, dict(by_operation)


def show_wrong(table, wrong, parts, bench):
    failed = [part for part in parts if part[1] == "failed"]
    if failed:
        table.head("Failed")
        table.rows(("part", "why"), [(part[0], part[4]) for part in failed])
    if wrong:
        table.say("")
        titles = ("operation", "shape", "dtype", "worst", "verdict", "why")
        table.rows(titles, [tuple(row[key] for key in ("operation", "shape", "dtype", "worst", "verdict", "note")) for row in wrong[:40]])
        if len(wrong) > 40:
            table.say(f"{len(wrong) - 40} more are in the parts' files.")
    for case in (bench or {}).get("cases", []):
        if case.get("error"):
            table.say("", f"Benchmark case `{case['name']}` failed: {case['error']}")


def show_missing(table, parts, bench):
    missing = [(part[0], part[4]) for part in parts if part[1] == "not run"]
    missing += [(f"bench, {case['name']}", ", ".join(case["not_run"])) for case in (bench or {}).get("cases", []) if case.get("not_run")]
    if missing:
        table.head("Did not run")
        table.rows(("part", "why"), missing)


def show_targets(table, card, known, compared):
    table.head("Targets")
    if not known:
        table.say(f"There are no targets for this GPU ({card}) with these sizes.")
        return
    if not compared:
        table.say("No workload with a target was measured.")
        return
    titles = ("workload", "measured", "minimum", "goal", "expected", "verdict")
    rows = [(c["what"], f"{rounded(c['measured'])} {c['unit']}", *(rounded(c[key]) for key in ("first", "goal", "expected")), c["verdict"]) for c in compared]
    table.rows(titles, rows)


def show_peer(table, found, peer):
    """Shows the rates next to those of PyTorch and transformers; returns the comparisons."""
    compared = []
    for work in ("rollout", "update", "step"):
        line, other = found.get(("full", work)), peer.get(work, {})
        if line and other.get("tokens_per_s"):
            compared.append({"work": work, "ours": line["tokens_per_s"], "peer": other["tokens_per_s"], "complete": other["complete"]})
    if not compared and not peer:
        return compared
    table.head("Comparison with PyTorch and transformers")
    titles = ("workload", "rlvr, tokens/s", "PyTorch, tokens/s", "ratio")
    star = lambda row: "" if row["complete"] else "*"
    table.rows(titles, [(c["work"], rounded(c["ours"]), rounded(c["peer"]) + star(c), f"{c['ours'] / c['peer']:.2f}") for c in compared])
    if not all(c["complete"] for c in compared):
        note = "The rate covers only the tokens computed by then, which favors PyTorch in rollouts: later tokens cost more."
        table.say("", f"\\* stopped by its time limit. {note}")
    for work, line in peer.items():
        if "error" in line:
            table.say("", f"PyTorch's {work} failed: {line['error']}")
        table.say(*(f"PyTorch's {work}: {failure}" for failure in line.get("failures", [])))
    return compared


def show_measurements(table, folder, bench, found):
    if not found:
        return
    table.head("All measurements")
    percent = lambda share: "" if share is None else f"{share:.0%}"
    rows = []
    for (case, work), line in found.items():
        rate, memory = rounded(line["tokens_per_s"]), rounded(line["peak_gb"])
        first = "" if line.get("warmed_up") else "*"
        rows.append((case, work, rounded(line["median_s"]) + first, rate, percent(line.get("utilisation")), percent(line.get("share_of_least")), memory))
    table.rows(("case", "workload", "s", "tokens/s", "utilization", "minimum / measured time", "peak GB"), rows)
    if any(not line.get("warmed_up") for line in found.values()):
        table.say("", "\\* first run of a long workload, without a warm-up.")
    if ceilings := (bench or {}).get("ceilings"):
        copy, square, widest = ceilings["copy_bytes_per_s"] / 1e12, ceilings["square_flops"] / 1e12, ceilings["widest_flops"] / 1e12
        table.say("", f"Ceilings of this machine: {copy:.3g} TB/s for copies, {square:.3g} TFLOP/s for a square product, {widest:.3g} TFLOP/s for the model's widest product.")
    sampled = [int(row[0]) for row in rows_of(folder / "bench.memory") if row[0].isdigit()]
    if sampled:
        table.say("", f"Peak memory according to nvidia-smi: {max(sampled) / 1024:.1f} GiB.")
    costs = [f"the {work} takes {line['cost']:.2f} times as long" for (case, work), line in found.items() if line.get("cost")]
    if costs:
        table.say("", f"With batch-invariant products, {', '.join(costs)}.")


def show_kernels(table, folder, profile):
    """Shows the time by kernel in each part of the profile; returns these times for the summary."""
    times, shown = folder / "profile-activity.tsv", {}
    if not times.exists() or not profile:
        return shown
    parts, lost = gpu_kernels.parts(times, profile)
    for part in parts:
        busy = part.busy_us / part.span_us
        shown[part.name] = {"span_us": part.span_us, "busy": busy, "calls": part.calls()}
        shown[part.name]["kernels"] = [{"kernel": k.name, "calls": k.calls, "us": k.busy_us, "idle_before_us": k.idle_us} for k in part.kernels[:TOP_KERNELS]]
        table.head(f"Time by kernel: {part.name}")
        idle_us = part.idle_us()
        table.say(f"{part.span_us / 1e3:.2f} ms, {part.calls()} launches and copies; busy {busy:.0%} of the time, idle for {idle_us / 1e3:.2f} ms.", "")
        rows = []
        for kernel in part.kernels[:TOP_KERNELS]:
            late = sum(kernel.idles[1:])
            share = f"{kernel.busy_us / part.span_us:.1%}"
            rows.append((f"`{kernel.name[:70]}`", kernel.calls, f"{kernel.busy_us / 1e3:.3f}", f"{kernel.mean_us():.1f}", share, f"{kernel.idle_us / 1e3:.3f}", late))
        table.rows(("kernel", "calls", "ms", "mean us", "share", "idle before, ms", "idle periods over 2 us"), rows)
    if lost:
        table.say("", f"{lost} records were lost.")
    return shown


def show_products(table, folder):
    """Shows what the library's first choice and batch invariance cost, for each product and number of rows."""
    times, is_same = defaultdict(dict), {}
    for row in rows_of(folder / "algorithms.tsv"):
        if len(row) < 16 or row[1] == "product":
            continue
        _, product, rows, k, n, algorithm, microseconds = row[:7]
        shape = (product, int(rows), f"{k} x {n}")
        if time_us := number(microseconds):
            times[shape][algorithm] = time_us
        if algorithm == "batch-invariant":
            is_same[shape] = row[15]
    shown = []
    for (product, rows, weight), by_algorithm in times.items():
        invariant, ordinary = by_algorithm.pop("batch-invariant", None), by_algorithm
        if not ordinary:
            continue
        best = min(ordinary, key=ordinary.get)
        entry = {"product": product, "rows": rows, "weight": weight, "best": best, "best_us": ordinary[best], "first_us": ordinary.get("1")}
        shown.append(entry | {"invariant_us": invariant, "has_the_same_bits": is_same.get((product, rows, weight))})
    if not shown and not is_same:
        return shown
    table.head("Algorithms for matrix products")
    if shown:
        table.say("`1` is the library's first choice. With `batch-invariant`, the bits of a row must not depend on the number of rows.", "")
        ratio = lambda us, entry: f"{us / entry['best_us']:.2f}" if us else ""
        cells = [(e["product"], e["rows"], e["weight"], f"{e['best_us']:.0f}", e["best"], ratio(e["first_us"], e), ratio(e["invariant_us"], e), e["has_the_same_bits"]) for e in shown]
        table.rows(("product", "rows", "weight", "best, us", "best algorithm", "first / best", "invariant / best", "same bits"), cells)
    elif different := [shape for shape, same in is_same.items() if same != "yes"]:
        table.say(f"The bits of these batch-invariant products depend on the number of rows: {different}.")
    else:
        table.say(f"No times were measured. The bits of {len(is_same)} batch-invariant products do not depend on the number of rows.")
    return shown


def show_outcomes(table, by_operation):
    if not by_operation:
        return
    table.head("Errors by operation, relative to the norm of a row")
    rows = [(name, e["count"], f"{e['worst']:.1e}", "" if e["stock_worst"] is None else f"{e['stock_worst']:.1e}") for name, e in sorted(by_operation.items())]
    table.rows(("operation", "outcomes", "worst", "stock operations, worst"), rows)


def main():
    folder = pathlib.Path(sys.argv[1])
    parts = [row for row in rows_of(folder / "parts.tsv") if len(row) == 5]
    bench, profile = read_json(folder / "bench.json"), read_json(folder / "profile.json")
    about = machine(folder, bench)
    found = measurements(bench) | measurements(profile)
    wrong, by_operation = outcomes(folder, [part[0] for part in parts])
    failed, missing = (sum(part[1] == outcome for part in parts) for outcome in ("failed", "not run"))
    name = about.get("card") or about.get("device") or "an unknown device"
    card = next((card for card in ("H100", "H200") if card in name), None)
    known = card and (bench or {}).get("shape") == TARGET_SHAPE
    compared = compare(card, found) if known else []

    table = Table()
    table.say(f"# {name}{'' if os.environ.get('IS_REAL') else ' (trial without a real GPU)'}", "")
    result = f"**{failed} parts failed, {len(wrong)} outcomes are wrong.**" if failed or wrong else "Nothing failed."
    count = sum(entry["count"] for entry in by_operation.values())
    table.say(f"{result} {len(parts)} parts, {count} outcomes of operations, {missing} parts did not run.")
    table.say(" ".join(f"{key.capitalize()} {about[key]}." for key in ("driver", "commit") if about.get(key)))
    def section(show, *arguments):
        # The machine may be gone by the time the report is read, so an error in one section must not lose the others.
        try:
            return show(table, *arguments)
        except Exception as error:
            table.say("", f"This section is incomplete: {show.__name__} failed with {type(error).__name__}: {error}")
            return None

    section(show_wrong, wrong, parts, bench)
    section(show_missing, parts, bench)
    section(show_targets, name, known, compared)
    peer_rates = section(show_peer, found, json_lines(folder / "peer.out"))
    section(show_measurements, folder, bench, found)
    kernels = section(show_kernels, folder, profile)
    products = section(show_products, folder)
    section(show_outcomes, by_operation)
    table.head("Parts")
    table.rows(("part", "outcome", "s", "limit"), [part[:4] for part in parts])
    text = "\n".join(table.lines) + "\n"
    (folder / "table.md").write_text(text)
    print(text)

    summary = {"machine": about, "is_real": bool(os.environ.get("IS_REAL")), "failed": failed, "not_run": missing, "wrong": wrong}
    summary["parts"] = [dict(zip(("part", "outcome", "seconds", "limit_s", "why"), part)) for part in parts]
    summary |= {"targets": compared, "beside_peer": peer_rates, "measurements": [dict(line, case=case) for (case, _), line in found.items()]}
    summary |= {"kernels": kernels, "products": products, "outcomes": by_operation}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
