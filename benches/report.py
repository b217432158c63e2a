#!/usr/bin/env python3
"""Measures `rlvr report` on a synthetic run: time, memory and size of the page.

    benches/report.py target/release/rlvr [--steps 2000] [--evaluations 100] [--responses 2247] [--keep FOLDER] [--browser]

The run has the shape of the paper's experiment: 2,000 steps and 100 evaluations with 2,247 responses each (six benchmarks, three of them with
eight samples per problem). It is deterministic and needs no model. Exits with 1 if the report takes more than 5 s, 500 MB of memory or
2,000,000 bytes. `--responses 100000` makes one large benchmark instead, without these limits on time and memory. `--browser` also opens the page
in headless Chromium and fails if it takes longer than 1 s to load; run it with the Python of scripts/check-pages.sh.
"""

import argparse
import gzip
import json
import math
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Benchmark, problems, samples per problem, decoding.
BENCHMARKS = [
    ("math500", 500, 1, "greedy"),
    ("aime24", 30, 8, "t0.6x8"),
    ("amc23", 40, 8, "t0.6x8"),
    ("minerva_math", 272, 1, "greedy"),
    ("olympiadbench", 675, 1, "greedy"),
    ("aime25", 30, 8, "t0.6x8"),
]
SUBJECTS = ["Algebra", "Counting & Probability", "Geometry", "Intermediate Algebra", "Number Theory", "Prealgebra", "Precalculus"]
WORDS = "so we have the that is equal to then let triangle number value sum we can find by using which gives therefore x y n angle area".split()
SATURATION = 0.1  # of the run
TIME_S, MEMORY_BYTES, PAGE_BYTES, OPENING_S = 5.0, 500e6, 2_000_000, 1.0


def estimate(share, count):
    half = 1.96 * math.sqrt(share * (1 - share) / count)
    return {"mean": share, "low": max(0.0, share - half), "high": min(1.0, share + half)}


def response(rng, words, answer, boxed):
    text = " ".join(rng.choice(WORDS) for _ in range(words))
    return f"{text}. The answer is \\boxed{{{answer}}}." if boxed else f"{text}. The answer is {answer}."


def evaluation(rng, progress, benchmarks):
    """Returns the answers and the score of each pass."""
    passes = {}
    for name, problems, samples, decoding in benchmarks:
        answers = []
        right = 0.2 + 0.4 * min(1.0, progress / SATURATION) + 0.1 * progress
        for problem in range(problems):
            for sample in range(samples):
                correct = rng.random() < right
                boxed = rng.random() < 0.6 + 0.4 * progress
                gold = str(problem)
                answer = gold if correct else str(rng.randrange(1000, 9999))
                answers.append({
                    "id": f"{name}/{problem}", "subject": SUBJECTS[problem % len(SUBJECTS)], "level": str(problem % 5 + 1), "sample": sample,
                    "gold": gold, "response": response(rng, rng.randrange(100, 400), answer, boxed), "extracted": answer if boxed else None,
                    "correct": correct and boxed, "correct_with_fallback": correct, "tokens": 500, "finish": "stop" if rng.random() < 0.9 else "length",
                })
        passes[f"{name}-{decoding}"] = answers, score(answers, problems, samples)
    return passes


def score(answers, problems, samples):
    share = lambda key: sum(bool(answer[key]) for answer in answers) / len(answers)
    parts = lambda key: {
        name: {"problems": len(group) // samples, "accuracy": estimate(sum(one["correct"] for one in group) / len(group), len(group))}
        for name in {answer[key] for answer in answers}
        for group in [[answer for answer in answers if answer[key] == name]]
    }
    accuracy = estimate(share("correct"), problems)
    return {
        "problems": problems, "samples": samples, "accuracy": accuracy, "accuracy_strict": accuracy,
        "accuracy_with_fallback": estimate(share("correct_with_fallback"), problems),
        "pass_at": [estimate(min(1.0, accuracy["mean"] * (1 + k / 8)), problems) for k in range(samples)] if samples > 1 else [],
        "majority": accuracy if samples > 1 else None, "boxed": share("extracted"), "cut_off": 0.1, "mean_tokens": 500.0,
        "by_subject": parts("subject"), "by_level": parts("level"),
        "reflection": {"rethink": 0.01, "recheck": 0.02, "recalculate": 0.0}, "reflecting": 0.03, "repeated_tails": 0.05, "foreign_letters": 0.001,
    }


def metrics(rng, step, progress):
    accuracy = min(1.0, 0.1 + progress / SATURATION)
    noise = lambda: rng.random()
    return {
        "step": step, "train/accuracy": 1.0 if accuracy == 1.0 else round(accuracy * 64) / 64, "train/boxed_share": min(1.0, 0.5 + noise()),
        "reward/mean": accuracy, "reward/zero_std_share": min(1.0, accuracy * noise() * 1.5), "actor/entropy": 0.5 * math.exp(-3 * progress) + 0.1 * noise(),
        "actor/kl_loss": progress * noise(), "actor/grad_norm": math.exp(-2 * noise()), "actor/pg_clipfrac": 0.01 * noise(),
        "actor/ppo_kl": 0.001 * noise(), "actor/lr": 1e-6, "response_length/mean": 400 + 100 * noise(), "response_length/clip_ratio": 0.1 * noise(),
        "perf/response_tokens_per_s": 5000 + 500 * noise(), "perf/step_s": 20 + noise(), "perf/elapsed_s": 25.0 * step,
        **{f"perf/phase/{phase}_s": 5 * noise() for phase in ["sample", "reward", "reference", "update", "optimizer", "save"]},
        "perf/phase/evaluate_s": 200.0 if step % 20 == 0 else 0.0, "rollout/logprob_gap_max": 0.01 * noise(), "watch/garbled_share": 0.0,
    }


def write_run(rlvr, root, steps, evaluations, benchmarks):
    rng = random.Random(0)
    settings = ["train.steps=1", "eval.benchmarks=", "checkpoint.every=0", "rollout.groups=1", "rollout.max_new_tokens=8"]
    command = [rlvr, "train", "--out", str(root)] + [part for one in settings for part in ("--set", one)]
    subprocess.run(command, check=True, capture_output=True)
    config = (root / "config.toml").read_text().replace("\nsteps = 1\n", f"\nsteps = {steps}\n")
    names = ",".join(benchmark for benchmark, *_ in benchmarks)
    (root / "config.toml").write_text(config.replace('benchmarks = ""', f'benchmarks = "{names}"'))
    (root / "summary.json").unlink(missing_ok=True)
    for old in (root / "rollouts").iterdir():
        old.unlink()
    lines = [json.dumps(metrics(rng, step, step / steps)) + "\n" for step in range(1, steps + 1)]
    (root / "metrics.jsonl").write_text("".join(lines))
    for step in range(1, steps + 1):
        rollouts = [
            {"step": step, "group": sample // 8, "sample": sample % 8, "example": "e", "text": response(rng, 60, rng.randrange(99), True),
             "reward": 1.0, "correct": True, "boxed": True, "finish": "stop"}
            for sample in range(16)
        ]
        with gzip.open(root / "rollouts" / f"{step:05}.jsonl.gz", "wt", compresslevel=1) as out:
            out.writelines(json.dumps(one) + "\n" for one in rollouts)
    write_evaluations(rng, root, steps, evaluations, benchmarks)


def write_evaluations(rng, root, steps, evaluations, benchmarks):
    """Evaluations other than the base, the first ones around saturation and the last share their responses, to save space."""
    every = max(1, steps // evaluations)
    shared = None
    for number in range(evaluations + 1):
        step = min(number * every, steps)
        progress = step / steps
        is_milestone = number in (0, evaluations) or abs(progress - SATURATION) < 0.02
        passes = evaluation(rng, progress, benchmarks) if is_milestone or shared is None else shared[0]
        folder = root / "eval" / f"{step:05}"
        folder.mkdir(parents=True)
        for name, (answers, _) in passes.items():
            path = folder / f"{name}.jsonl"
            if not is_milestone and shared is not None:
                os.link(shared[1] / path.name, path)
            else:
                path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        (folder / "scores.json").write_text(json.dumps({name: score for name, (_, score) in passes.items()}))
        if number == 0:
            shared = passes, folder


def open_in_browser(page_file):
    """Returns the seconds until the page is loaded, and those until a held-out problem is shown: the medians of five."""
    from playwright.sync_api import sync_playwright

    loaded, shown = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page()
            page.goto(page_file.as_uri(), wait_until="load")
            loaded.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"))
            start = time.monotonic()
            page.locator("[role=option]").first.click()
            page.locator("#responses .response-opened .response-column").first.wait_for()
            shown.append(time.monotonic() - start)
            page.close()
        browser.close()
    return statistics.median(loaded), statistics.median(shown)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rlvr", help="the program to measure")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--responses", type=int, default=2247)
    parser.add_argument("--keep", type=Path, help="write the run to this new folder and keep it")
    parser.add_argument("--browser", action="store_true", help="also measure how long the page takes to open")
    arguments = parser.parse_args()
    is_standard = arguments.responses == 2247
    benchmarks = BENCHMARKS if is_standard else [("math500", arguments.responses, 1, "greedy")]
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary) / "synthetic"
        write_run(os.path.abspath(arguments.rlvr), root, arguments.steps, arguments.evaluations, benchmarks)
        output = Path(temporary) / "report.html"
        start = time.monotonic()
        subprocess.run([os.path.abspath(arguments.rlvr), "report", str(root), "-o", str(output)], check=True, stdout=subprocess.DEVNULL)
        seconds, memory = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        size = output.stat().st_size
        opened = open_in_browser(output) if arguments.browser else None
    found = {"seconds": round(seconds, 2), "memory_mb": round(memory / 1e6), "page_bytes": size}
    if opened:
        found |= {"page_loaded_s": round(opened[0], 3), "problem_shown_s": round(opened[1], 3)}
    print(json.dumps(found | {key: getattr(arguments, key) for key in ("steps", "evaluations", "responses")}))
    is_slow = is_standard and (seconds > TIME_S or memory > MEMORY_BYTES) or opened is not None and opened[0] > OPENING_S
    sys.exit(int(is_slow or size > PAGE_BYTES))


if __name__ == "__main__":
    main()
