"""Compare the speed of rollouts, updates and whole steps of the embedded model: `rlvr bench` against eager PyTorch and TRL.

All use the same exported base model, prompt and number of threads. `rlvr bench` and PyTorch use the same response lengths, which were sampled from the
base model (128 responses). TRL samples its own 64 responses at learning rate 0 and is compared with a step of 64 responses of `rlvr bench`. The
docstrings of peer_torch.py and peer_trl.py describe their workloads. `step_best` is PyTorch with finished sequences dropped at no cost and
micro-batches of similar lengths: a bound that no real program reaches.

    cargo build --release
    python benches/compare.py --rlvr target/release/rlvr          # Python with scripts/requirements-peers.txt

Prints a Markdown table with ratios. Run it on an idle machine: PyTorch suffers most from other programs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def json_lines(command):
    """Runs a command and returns the JSON lines that it prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def medians(command):
    """Runs `rlvr bench` and returns the median time of each workload in seconds."""
    (report,) = json_lines([*command, "--json"])
    return {measurement["work"]: measurement["median_s"] for measurement in report["measurements"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", default="target/release/rlvr")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5, help="seconds to measure each workload of each program")
    parser.add_argument("--trl-steps", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, lengths = folder / "tiny", folder / "lengths.txt"
        subprocess.run([arguments.rlvr, "init", "--like", "tiny", "--out", model], check=True, capture_output=True)
        bench = [arguments.rlvr, "bench", "--model", model, "--seconds", arguments.seconds]
        ours = medians([*bench, "--write-lengths", lengths])
        torch = [sys.executable, HERE / "peer_torch.py", "--model", model, "--threads", arguments.threads]
        peers = {line["work"]: line for line in json_lines([*torch, "--lengths", lengths, "--seconds", arguments.seconds])}
        ours_64 = medians([*bench, "--sequences", 64, "--work", "step"])
        trl = [sys.executable, HERE / "peer_trl.py", "--model", model, "--threads", arguments.threads, "--steps", arguments.trl_steps]
        (trl,) = json_lines([*trl, "--lr", 0])
    first = next(iter(peers.values()))
    print(f"{first['sequences']} responses, {first['response_tokens']} tokens in total, prompt of {first['prompt_tokens']} tokens;", end=" ")
    print(f"torch {first['torch']}, transformers {trl['transformers']}, TRL {trl['trl']}, {arguments.threads} threads\n")
    print("| work | rlvr | peer | ratio |\n|---|---|---|---|")
    rows = [("rollout", "rollout"), ("rollout", "rollout_compacted"), ("update", "update"), ("update", "update_sorted"), ("step", "step"), ("step", "step_best")]
    for work, peer in rows:
        print(f"| {work} | {ours[work] * 1e3:.1f} ms | PyTorch `{peer}` {peers[peer]['median_s'] * 1e3:.0f} ms | {peers[peer]['median_s'] / ours[work]:.1f} |")
    step, theirs = ours_64["step"], trl["median_s"]
    print(f"| step of 64 | {step * 1e3:.1f} ms | TRL {theirs * 1e3:.0f} ms (mean {trl['mean_completion_tokens']} tokens) | {theirs / step:.1f} |")


if __name__ == "__main__":
    main()
