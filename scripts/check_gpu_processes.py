#!/usr/bin/env python3
"""Trains the embedded model with several processes that have a GPU each, connected by NCCL. scripts/check_nccl.sh runs it on emulated GPUs
with a stand-in for NCCL; on a machine with GPUs it runs as it is.

Usage: scripts/check_gpu_processes.py PROGRAM [--ranks 2]

    torchrun   started with torchrun's variables
    direct     started by --processes where there is no MPI
    mpirun     started by Open MPI and MPICH, which scripts/mpi.sh installs
    lost       a GPU is lost in the middle of a run, or a process is killed: all processes end, and an error names the rank (torchrun's
               variables)
"""
import argparse
import os
import pathlib
import subprocess
import tempfile
import time

from check_mpi import END_S, finish, installed
from check_processes import result, steps, words

SETTINGS = {
    "compute.device": "cuda", "compute.kernels": "fused", "compute.dtype": "f32", "compute.batch_invariant": "true", "train.shards": 2,
    "train.steps": 2, "rollout.groups": 2, "rollout.group_size": 4, "rollout.max_new_tokens": 12, "eval.limit": 2, "eval.every": 2,
    "eval.max_new_tokens": 12,
}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
# The first is started in every way, the others with torchrun's variables only.
CASES = {"grpo": {}, "ppo with adapters": {"algo": "ppo", "lora.rank": 2}}


def start(program, folder, ranks, settings, port, **variables):
    """Starts the ranks with the variables that torchrun sets."""
    shared = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def rank(number):
        own = {"RANK": number, "LOCAL_RANK": number}
        environment = os.environ | {name: str(value) for name, value in (shared | own | variables.get(f"rank_{number}", {})).items()}
        command = [str(word) for word in words(program, folder, SETTINGS | settings)]
        return subprocess.Popen(command, env=environment, **PIPES)

    return [rank(number) for number in range(ranks)]


def check_bits(program, ranks, mpis, port):
    for name, settings in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            started = time.monotonic()
            subprocess.run([str(word) for word in words(program, folder / "1", SETTINGS | settings)], check=True, capture_output=True)
            expected, seconds = result(folder / "1", 2), time.monotonic() - started
            outcomes = [finish(process) for process in start(program, folder / "torchrun", ranks, settings, port)]
            assert all(code == 0 for code, _, _ in outcomes), outcomes
            assert result(folder / "torchrun", 2) == expected, (name, "torchrun")
            line = next(line for line in outcomes[0][2].splitlines() if f"{ranks} ranks on 1 host" in line)
            print(f"  {name}: weights {expected[0][:12]} and metrics {expected[1][:12]} with 1 process ({seconds:.0f} s) and with {line}")
            if settings:
                continue
            direct = [*words(program, folder / "direct", SETTINGS | settings), "--processes", ranks]
            outcome = finish(subprocess.Popen([str(word) for word in direct], env=os.environ | {"PATH": ""}, **PIPES))
            assert outcome[0] == 0 and result(folder / "direct", 2) == expected, (name, outcome)
            for mpi in mpis:
                outcome = mpi.run(["-n", ranks, *words(program, folder / mpi.name, SETTINGS | settings)])
                assert outcome[0] == 0, outcome
                assert result(folder / mpi.name, 2) == expected, (name, mpi.name)
            print(f"  {name}: the same with {', '.join(['--processes', *(mpi.name for mpi in mpis)])}")


def check_lost(program, ranks, port):
    """The last rank's GPU fails, and later its process is killed. Without a launcher that ends the other ranks, NCCL must notice."""
    settings = {"train.steps": 50}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        processes = start(program, folder / "gpu", ranks, settings, port, **{f"rank_{ranks - 1}": {"EMULATED_GPU_LOST_AFTER": 2000}})
        report([finish(process) for process in processes], "a GPU is lost", f"rank {ranks - 1}: ")
        processes = start(program, folder / "kill", ranks, settings, port + 1)
        while steps(folder / "kill") < 1:
            assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
            time.sleep(0.05)
        processes[-1].kill()
        report([finish(process, END_S) for process in processes], "a process is killed", "rank 0: the connection to the other processes broke")


def report(outcomes, what, expected):
    assert all(code != 0 for code, _, _ in outcomes), outcomes
    errors = [line for _, _, error in outcomes for line in error.splitlines() if line.startswith("error: ")]
    assert any(expected in line for line in errors), outcomes
    print(f"  {what}: exit codes {[code for code, _, _ in outcomes]}")
    for line in errors:
        print(f"    {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--ranks", type=int, default=2)
    args = parser.parse_args()
    port = 20_000 + os.getpid() % 20_000
    print("runs whose processes have a GPU each")
    check_bits(args.program, args.ranks, installed(), port)
    if "EMULATED_GPU" in os.environ:
        check_lost(args.program, args.ranks, port + 1)


if __name__ == "__main__":
    main()
