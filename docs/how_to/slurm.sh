#!/bin/bash
# Trains a recipe on several machines of a Slurm cluster: sbatch slurm.sh
# Submit it in a folder that all machines share; data and results are there too.
#SBATCH --job-name=keras-tl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
# With GPUs, remove one #:
##SBATCH --gpus-per-node=1

recipe=(quickstart --batch-size 64)
# The number of a job stays when it is put into the queue again.
out=runs/job-$SLURM_JOB_ID
port=$((20000 + SLURM_JOB_ID % 10000))

if [ -d "$out/state" ]; then
  recipe=("${recipe[0]}" --resume "$out")
else
  recipe+=(--out "$out")
fi

# "node1:20042", "node2:20042", ...: the first is the chief.
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" |
  paste -s -d ,)
export WORKERS

# One task on each machine; each says which of the workers it is.
srun bash -c '
  task="{\"type\": \"worker\", \"index\": $SLURM_NODEID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": $task}"
  exec keras-tl run "$@"
' worker "${recipe[@]}"
status=$?

# 75: another machine was lost. Slurm itself does this when a node fails.
if [ "$status" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 5 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
