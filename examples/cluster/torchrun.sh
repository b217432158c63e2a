#!/bin/bash
# One run on the GPUs of several machines without MPI, by torchrun, which comes with PyTorch. Start it on every machine with the same
# arguments: examples/cluster/torchrun.sh FIRST-HOST MACHINES GPUS-PER-MACHINE
set -euo pipefail

torchrun --no-python --nnodes "$2" --nproc-per-node "$3" --rdzv-backend c10d --rdzv-endpoint "$1:29400" \
  rlvr train --config configs/pi1.toml --set train.shards=16 --set compute.batch_invariant=true --out runs/pi1-torchrun
