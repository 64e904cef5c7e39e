#!/bin/bash
# Trains on a SLURM cluster: one process per node, which uses all of the node's GPUs.
#
#   sbatch --nodes=4 launch/slurm.sh --config=configs/denoise.py --workdir=/shared/runs/denoise
#
# Ten minutes before the time limit all processes save the same step and end, and the job is
# queued again. The same command also resumes by hand.
#SBATCH --job-name=hypernet-jax
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

cd "${SLURM_SUBMIT_DIR:-.}" || exit
srun --kill-on-bad-exit=1 "${PYTHON:-python}" train.py --coordinator=auto "$@" &
steps=$!
stopped=
trap 'stopped=1; kill -TERM "$steps"' TERM # srun passes it on to every process
wait "$steps"
status=$?
if [[ -n $stopped ]]; then
    # A trap ends the first wait.
    wait "$steps" && scontrol requeue "$SLURM_JOB_ID"
    status=$?
fi
exit "$status"
