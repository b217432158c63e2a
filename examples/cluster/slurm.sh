#!/bin/bash
# One run on 16 GPUs of two machines under Slurm: sbatch examples/cluster/slurm.sh
# Each task takes the GPU with its number on the machine. The folder in which it is submitted must be on a file system that all machines see.
#SBATCH --job-name=rlvr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# Five minutes before the time is up, Slurm sends SIGUSR1 to the tasks, which save and stop. Submit the script again to go on.
#SBATCH --signal=USR1@300
set -euo pipefail

run=runs/pi1-16-gpus
if [ -d "$run" ]; then
  arguments=(--resume "$run")
else
  arguments=(--config configs/pi1.toml --set train.shards=16 --set compute.batch_invariant=true --out "$run")
fi
# --mpi names the interface between Slurm and the MPI library; `srun --mpi=list` prints those that there are. MPICH needs pmi2.
srun --mpi=pmix --kill-on-bad-exit=1 rlvr train "${arguments[@]}"
