"""The table of scripts/gpu-check.sh: ours beside the peer's, from the files in its folder. Fails where a work of ours is not there.

    python3 scripts/gpu_table.py OUT

Rates are response tokens per second; a ratio is ours over the peer's. The peer's rate marked * is of a run that its time limit cut.
"""

import json
import pathlib
import sys

WORKS = ("rollout", "update", "step")


def json_lines(path):
    """Measurements by work; none where the file or the measurement is not there."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["work"]: line for line in (json.loads(text) for text in lines if text.startswith("{") and text.endswith("}"))}


def sampled_bytes(path):
    """Most memory that the GPU had in use, as nvidia-smi saw it."""
    samples = [int(line) for line in path.read_text().split() if line.isdigit()] if path.exists() else []
    return max(samples) * (1 << 20) if samples else None


def gigabytes(count):
    return f"{count / 1e9:.2f}" if count else "unknown"


def peak(line, sampled):
    """The device's, as the program knows it or as it was sampled for the whole part; the process's where there is no GPU."""
    return gigabytes(line["peak_bytes"] if line.get("peak_of") == "device" else sampled or line["peak_bytes"])


def rows(folder, name, peers, works=WORKS):
    """A row for each work of a part, and how many are missing."""
    ours, missing = json_lines(folder / f"{name}.out"), 0
    sampled = sampled_bytes(folder / f"{name}.memory")
    for work in works:
        if work not in ours:
            missing += 1
            print(f"| {name} {work} | missing | | | | | | |")
            continue
        line, peer = ours[work], peers.get(work, {})
        rate, theirs = line["tokens_per_s"], peer.get("tokens_per_s")
        shown = f"{theirs:.0f}{'' if peer.get('complete') else '*'}" if theirs else "failed" if "error" in peer else ""
        ratio = f"{rate / theirs:.2f}" if theirs else ""
        shares = f"{line['share_of_least']:.0%} | {line['utilisation']:.0%}"
        memory = f"{peak(line, sampled)} | {gigabytes(peer.get('peak_bytes')) if peer else ''}"
        print(f"| {name} {work} | {rate:.0f} | {shown} | {ratio} | {shares} | {memory} |")
    return missing


def main():
    folder = pathlib.Path(sys.argv[1])
    print("| work | ours, tokens/s | peer, tokens/s | ratio | share of ceiling | utilisation | our peak GB | peer's peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    peers = json_lines(folder / "peer.out")
    missing = rows(folder, "full", peers) + rows(folder, "small", {}) + rows(folder, "stock", {})
    missing += sum(rows(folder, name, {}, WORKS[:2]) for name in ("wide", "invariant"))
    wide, invariant = (json_lines(folder / f"{name}.out") for name in ("wide", "invariant"))
    for work in WORKS[:2]:
        if work in wide and work in invariant:
            cost = invariant[work]["median_s"] / wide[work]["median_s"]
            print(f"\nBatch-invariant products: the {work} takes {cost:.2f} times as long.")
    full = folder / "full.json"
    if full.exists():
        ceilings = json.loads(full.read_text())["ceilings"]
        copy, square, widest = ceilings["copy_bytes_per_s"] / 1e9, ceilings["square_flops"] / 1e9, ceilings["widest_flops"] / 1e9
        print(f"\nCeilings of the machine: {copy:.0f} GB/s copied, {square:.0f} GFLOP/s in a square product, {widest:.0f} in the model's widest.")
    for line in peers.values():
        if "error" in line:
            print(f"The peer's {line['work']} failed: {line['error']}")
        for failure in line.get("failures", []):
            print(f"The peer's {line['work']}: {failure}")
        if line.get("complete") is False and "measured_tokens" in line:
            print(f"* The peer's {line['work']} was cut after {line['measured_tokens']} of {line['tokens']} tokens.")
    if (folder / "peer.missing").exists():
        print((folder / "peer.missing").read_text().strip())
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
