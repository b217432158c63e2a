#!/usr/bin/env python3
"""Trains the embedded model with several processes under Open MPI and MPICH, which scripts/mpi.sh installs.

Usage: scripts/check_processes.py [--target DIR] [--kills 10] [--seed 1] [--only bits,kills,signal,mistakes,study]

    bits      1, 2 and 4 processes write the same weights and metrics with GRPO, PPO, adapters, 8-bit moments and several examples
    kills     a process is killed at a random moment; resumed with another number of processes, the run ends with the undisturbed weights
    signal    SIGUSR1 to the launcher saves and stops all processes at the same step; the resumed run ends with the undisturbed weights
    mistakes  processes that cannot share the run, or differ, refuse with one sentence
    study     the runs of a study are dealt over processes: the same table and weights as with one, also after a kill and a signal
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

from check_mpi import END_S, ROOT, Mpi, finish, installed

SMALL = {
    "train.shards": 8, "train.steps": 4, "rollout.groups": 4, "rollout.group_size": 8, "rollout.max_new_tokens": 60, "reward.name": "format",
    "eval.every": 2, "eval.limit": 8, "checkpoint.every": 1,
}
CASES = {
    "grpo": {},
    "ppo": {"algo": "ppo", "train.updates_per_rollout": 2, "reward.kl": 0.01},
    "adapters": {"lora.rank": 4},
    "8-bit moments": {"optim.states": "8bit"},
    "several examples": {"example": "tiny/train/6", "rollout.dynamic_sampling": 2},
}


def words(program, folder, settings):
    pairs = (SMALL | settings).items()
    return [program, "train", "--out", folder, *(word for key, value in pairs for word in ("--set", f"{key}={value}"))]


def result(folder, step):
    """Returns the hash of the last weights and of the metrics without times."""
    weights = hashlib.sha256((folder / f"checkpoints/{step:05}/model.safetensors").read_bytes()).hexdigest()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in lines]
    return weights, hashlib.sha256(json.dumps(metrics).encode()).hexdigest()


def succeed(outcome):
    assert outcome[0] == 0, outcome


def alone(program, folder, settings):
    """Returns the result of one process."""
    subprocess.run(list(map(str, words(program, folder, settings))), check=True, capture_output=True)
    return result(folder, (SMALL | settings)["train.steps"])


def check_bits(program, mpis, _):
    for name, settings in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            expected = alone(program, folder / "1", settings)
            for mpi in mpis:
                for ranks in (2, 4):
                    together = folder / f"{mpi.name}-{ranks}"
                    succeed(mpi.run(["-n", ranks, *words(program, together, settings)]))
                    assert result(together, SMALL["train.steps"]) == expected, (name, mpi.name, ranks)
            print(f"  {name}: weights {expected[0][:12]} and metrics {expected[1][:12]} with 1, 2 and 4 processes")


def ranks_of(folder):
    """Returns the process ids of the ranks of a run."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if pathlib.Path(os.fsdecode(command[0])).name == "rlvr" and os.fsencode(folder) in command:
            found.append(int(process.name))
    return sorted(found)


def steps(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_step(folder, step, process):
    deadline = time.monotonic() + 60
    while steps(folder) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{folder} does not reach step {step}"
        time.sleep(0.01)


def check_kills(program, mpis, args):
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        settings = {"train.steps": 8, "eval.every": 4}
        started = time.monotonic()
        expected = alone(program, folder / "alone", settings)
        step_s = (time.monotonic() - started) / 8
        for number in range(args.kills):
            run, mpi = folder / str(number), draw.choice(mpis)
            before, after = draw.sample((2, 4, 8), 2)
            process = mpi.start(["-n", before, *words(program, run, settings)])
            # At most one step later, so that there is a step left to resume.
            wait_for_step(run, draw.randint(1, 5), process)
            time.sleep(draw.random() * step_s)
            killed = draw.choice(ranks_of(run))
            os.kill(killed, signal.SIGKILL)
            started = time.monotonic()
            code, _, _ = finish(process, END_S)
            assert code != 0 and not ranks_of(run), (code, ranks_of(run))
            seconds, reached = time.monotonic() - started, steps(run)
            succeed(draw.choice(mpis).run(["-n", after, program, "train", "--resume", run]))
            assert result(run, 8) == expected, (number, mpi.name, before, after)
            print(f"  {number + 1}: 1 of {before} killed after step {reached}, all ended after {seconds:.1f} s; {after} processes finished the run")


def check_signal(program, mpis, _):
    for mpi in mpis:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            settings = {"train.steps": 6, "eval.every": 3, "checkpoint.every": 0}
            expected = alone(program, folder / "alone", settings)
            run = folder / "run"
            process = mpi.start(["-n", 4, *words(program, run, settings)])
            wait_for_step(run, 2, process)
            process.send_signal(signal.SIGUSR1)
            code, _, error = finish(process, END_S)
            assert code == 128 + signal.SIGUSR1 and "everything is saved" in error, (mpi.name, code, error)
            saved = steps(run)
            succeed(mpi.run(["-n", 2, program, "train", "--resume", run]))
            assert result(run, 6) == expected, mpi.name
            print(f"  {mpi.name}: SIGUSR1 saved {saved} steps, and 2 processes instead of 4 finished the run")


def check_mistakes(program, mpis, _):
    def refuse(mpi, command, expected):
        code, _, error = mpi.run(command)
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert code != 0 and len(lines) == 1 and expected in lines[0], (mpi.name, code, error)
        print(f"  {mpi.name}: {lines[0]}")

    for mpi in mpis:
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder) / "run"
            refuse(mpi, ["-n", 3, *words(program, run, {})], "train.shards is 8, which 3 processes cannot share equally")
            refuse(mpi, ["-n", 2, *words(program, run, {"train.shards": 0})], "add --set train.shards=2")
            other = ["-n", 1, *words(program, run, {"loss.entropy": 0.5})]
            refuse(mpi, ["-n", 1, *words(program, run, {}), ":", *other], "rank 1 has the setting loss.entropy 0.5, but rank 0 has")
            assert not run.exists(), "a refused run writes nothing"


STUDY = """title = "Two rewards"
seeds = [0, 1]
[base]
train.steps = 3
rollout.groups = 1
rollout.max_new_tokens = 30
eval.limit = 8
checkpoint.every = 1
[[arm]]
label = "outcome"
[[arm]]
label = "format"
set = { reward.name = "format" }
"""


def study_result(out):
    """Returns both tables, and the last weights of each run."""
    weights = {path.relative_to(out): path.read_bytes() for path in out.glob("*/*/checkpoints/00003/model.safetensors")}
    assert len(weights) == 4, weights.keys()
    return [(out / name).read_text() for name in ("study.md", "study.json")], weights


def end_study(process, out, sent):
    """Sends a signal to a rank, or to the launcher if the launcher passes it on. Returns the exit code and what was printed."""
    if sent != signal.SIGKILL:
        process.send_signal(sent)
        return finish(process, END_S)[::2]
    # The launcher must not wait for a run that outlives its study, but the next study must.
    runs = ranks_of(out / "format/seed-0")
    try:
        for run in runs:
            os.kill(run, signal.SIGSTOP)
        os.kill(ranks_of(out)[1], sent)
        return finish(process, END_S)[::2]
    finally:
        for run in runs:
            os.kill(run, signal.SIGCONT)


def check_study(program, mpis, _):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "study.toml").write_text(STUDY)

        def command(out, *more):
            return [program, "study", folder / "study.toml", "--out", out, *more]

        def continue_alone(out):
            outcome = subprocess.run(list(map(str, command(out))), capture_output=True, text=True)
            assert outcome.returncode == 0, outcome
            assert study_result(out) == expected, out

        subprocess.run(list(map(str, command(folder / "alone", "--jobs", 2))), check=True, capture_output=True)
        expected = study_result(folder / "alone")
        for mpi in mpis:
            together = folder / mpi.name
            code, out, error = mpi.run(["-n", 2, *command(together)])
            assert code == 0 and out == expected[0][0] and study_result(together) == expected, (mpi.name, code, out, error)
            # Rank 0 alone prints, also about the runs of the other.
            assert error.count(": started") == 4, (mpi.name, error)
            for sent in (signal.SIGKILL, signal.SIGUSR1):
                out = folder / f"{mpi.name}-{sent.name}"
                process = mpi.start(["-n", 2, *command(out)])
                wait_for_step(out / "format/seed-0", 1, process)
                code, error = end_study(process, out, sent)
                assert not ranks_of(out) and (code != 0 if sent == signal.SIGKILL else code == 128 + sent), (mpi.name, code, error)
                continue_alone(out)
            refused = ["-n", 1, *command(folder / "none"), ":", "-n", 1, *command(folder / "none", "--jobs", 2)]
            code, _, error = mpi.run(refused)
            assert code != 0 and "rank 1 has --jobs 2, but rank 0 has 1" in error and not (folder / "none").exists(), (mpi.name, error)
            print(f"  {mpi.name}: 4 runs on 2 processes; one process continued after a kill and after SIGUSR1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=pathlib.Path, help="the folder with the program (default: cargo's for releases)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="bits,kills,signal,mistakes,study")
    args = parser.parse_args()
    target = args.target or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    mpis = installed()
    for part in args.only.split(","):
        print(part)
        globals()[f"check_{part}"](target / "rlvr", mpis, args)


if __name__ == "__main__":
    main()
