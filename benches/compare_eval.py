"""Compare the speed of evaluating the embedded base model: `rlvr eval`, with grading, against transformers' `generate` in batches of 32.

Both use the same exported base model in f32, the same prompts (MATH-500, Minerva and OlympiadBench, greedy decoding), the same limit on new tokens
and the same number of threads. The printed mean lengths must agree. Times run from the first prompt to the last score or text, without loading.

    cargo build --release
    python benches/compare_eval.py --data-dir DATA --rlvr target/release/rlvr     # Python with scripts/requirements-peers.txt

Prints a Markdown table with ratios. `sorted` batches prompts of similar lengths.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from compare import HERE, json_lines

SETS = "math500,minerva_math,olympiadbench"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlvr", default="target/release/rlvr")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "tiny"
        subprocess.run([args.rlvr, "init", "--like", "tiny", "--out", model], check=True, capture_output=True)
        arguments = ["--model", model, "--data-dir", args.data_dir, "--benchmarks", SETS, "--limit", args.limit, "--max-new-tokens", args.max_new_tokens]
        (report,) = json_lines([args.rlvr, "eval", *arguments, "--json"])
        passes = report["passes"]
        peer = [sys.executable, HERE / "peer_evaluate.py", *arguments, "--threads", args.threads]
        peers = [line for more in ([], ["--sorted"]) for line in json_lines([*peer, *more])]
    problems = sum(line["times"]["answered"] for line in passes)
    elapsed_s = sum(line["times"]["elapsed_s"] for line in passes)
    grading_s = sum(line["times"]["grading_s"] for line in passes)
    tokens = sum(line["score"]["mean_tokens"] * line["problems"] for line in passes)
    print(f"{problems} problems, at most {args.max_new_tokens} new tokens; torch {peers[0]['torch']}, transformers {peers[0]['transformers']},", end=" ")
    print(f"{args.threads} threads; grading took {grading_s / elapsed_s:.2%} of rlvr's time\n")
    print("| program | problems/s | mean tokens | ratio |\n|---|---|---|---|")
    ours = problems / elapsed_s
    print(f"| rlvr eval | {ours:.1f} | {tokens / problems:.1f} | |")
    for peer in peers:
        theirs = peer["problems"] / peer["elapsed_s"]
        name = f"transformers, batches of {peer['batch']}{', sorted' if peer['sorted'] else ''}"
        print(f"| {name} | {theirs:.1f} | {peer['tokens'] / peer['problems']:.1f} | {ours / theirs:.1f} |")


if __name__ == "__main__":
    main()
