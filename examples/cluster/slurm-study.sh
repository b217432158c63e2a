#!/bin/bash
# A study on 16 GPUs of two machines under Slurm, one run per GPU at a time: sbatch examples/cluster/slurm-study.sh
#SBATCH --job-name=rlvr-study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Submitted again, the study continues with the runs that are missing or stopped.
#SBATCH --signal=USR1@300
set -euo pipefail

srun --mpi=pmix --kill-on-bad-exit=1 rlvr study configs/paper/all.toml --out studies/paper
