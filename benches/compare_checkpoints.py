"""Compare the speed of `rlvr score` and `rlvr sample` with transformers on checkpoints of realistic sizes.

  score   the Qwen2.5-Math-1.5B shape, bf16 on disk, computed in f32: 4 responses of 384 tokens to prompts of 128 tokens
  sample  a shape with 100M parameters in f32: 32 responses of 64 tokens to one prompt of 64 tokens

Both programs use random weights from `rlvr init` and the same number of threads, and run one after the other. Also prints load times and peak memory.

    cargo build --release
    python benches/compare_checkpoints.py --rlvr target/release/rlvr       # Python with scripts/requirements-peers.txt

Needs 12 GB of memory and 4 GB of disk. Prints a Markdown table with ratios. Run it on an idle machine.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
THREADS = "2"
PARAMETERS = 1_543_714_304  # of the 1.5B shape; the tied embedding counts once
SHAPE_100M = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "intermediate_size": 2048,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}


def run(command):
    """Runs a command; returns its output, its time in seconds, and its peak memory in bytes."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=stderr, text=True, env=os.environ | {"RAYON_NUM_THREADS": THREADS})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            stderr.seek(0)
            sys.exit(f"{' '.join(map(str, command))}\n{stderr.read()}")
        stdout.seek(0)
        return stdout.read(), seconds, usage.ru_maxrss * 1024


def measured(command):
    """Runs a command and returns its only JSON line."""
    (line,) = [line for line in run(command)[0].splitlines() if line.startswith("{")]
    return json.loads(line)


def compare(rlvr, arguments, folder, model, work, peer_work, prompt_tokens, sequences, length):
    """Measures rlvr and transformers; returns both JSON lines."""
    lengths = folder / "lengths.txt"
    lengths.write_text(f"{length}\n" * sequences)
    ours = [rlvr, "bench", "--model", model, "--work", work, "--lengths", lengths, "--prompt-tokens", prompt_tokens]
    theirs = [sys.executable, HERE / "peer_transformers.py", "--model", model, "--work", peer_work, "--prompt-tokens", prompt_tokens]
    theirs += ["--sequences", sequences, "--length", length, "--threads", arguments.threads]
    (ours,) = measured([*ours, "--seconds", arguments.seconds, "--json"])["measurements"]
    return ours, measured([*theirs, "--seconds", arguments.seconds])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", default="target/release/rlvr")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="seconds to measure each workload of each program")
    parser.add_argument("--folder", type=pathlib.Path, help="folder of the two models, created if missing (default: a temporary folder)")
    arguments = parser.parse_args()
    global THREADS
    THREADS, rlvr = str(arguments.threads), arguments.rlvr
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        folder = arguments.folder or temporary
        big, small = folder / "1.5b", folder / "100m"
        init_s = None
        if not big.exists():
            _, init_s, _ = run([rlvr, "init", "--like", "qwen2.5-math-1.5b", "--dtype", "bf16", "--out", big])
        if not small.exists():
            fields = [part for field, value in SHAPE_100M.items() for part in ("--set", f"{field}={value}")]
            run([rlvr, "init", "--like", "qwen2.5-math-1.5b", "--dtype", "f32", "--out", small, *fields])
        one = temporary / "one.jsonl"
        one.write_text('{"id": 0, "prompt_ids": [5, 6, 7], "completion_ids": [8]}\n')
        run([rlvr, "score", "--model", big, "--input", one])  # brings the file into the system's cache
        _, load_s, load_bytes = run([rlvr, "score", "--model", big, "--input", one])
        many = temporary / "many.jsonl"
        line = {"id": 0, "prompt_ids": list(range(3, 131)), "completion_ids": list(range(3, 387))}
        many.write_text(f"{json.dumps(line)}\n" * 4)
        _, _, score_bytes = run([rlvr, "score", "--model", big, "--input", many])
        rows = [("score, 1.5B", *compare(rlvr, arguments, temporary, big, "score", "score", 128, 4, 384))]
        rows.append(("sample, 100M", *compare(rlvr, arguments, temporary, small, "rollout", "generate", 64, 32, 64)))

    theirs = rows[0][2]
    print(f"torch {theirs['torch']}, transformers {theirs['transformers']}, {arguments.threads} threads\n")
    print("| work | rlvr | transformers | ratio |\n|---|---|---|---|")
    for name, ours, peer in rows:
        print(f"| {name} | {ours['median_s']:.2f} s | {peer['median_s']:.2f} s | {peer['median_s'] / ours['median_s']:.2f} |")
    print(f"\n`rlvr score` of one token with the 1.5B shape, file in the cache: {load_s:.1f} s, peak memory {load_bytes / 1e9:.2f} GB;")
    print(f"peak memory of 1,536 response tokens: {score_bytes / 1e9:.2f} GB ({score_bytes / 4 / PARAMETERS:.2f} x 4 bytes x parameters).", end=" ")
    print(f"transformers loads the model in {theirs['load_s']:.1f} s and needs {theirs['peak_bytes'] / 1e9:.2f} GB.")
    if init_s:
        print(f"`rlvr init` made the 1.5B shape in {init_s:.0f} s.")


if __name__ == "__main__":
    main()
