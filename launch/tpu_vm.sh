#!/bin/bash
# Trains on a TPU slice: runs one command on all of its hosts.
#
#   launch/tpu_vm.sh TPU_NAME ZONE --config=configs/denoise.py --workdir=/mnt/runs/denoise
#
# Every host needs this repository in ~/hypernet_jax, installed with the extras tpu, train and gcs,
# and the workdir: a shared disk, or a bucket mounted by gcsfuse. The dataset may be gs://. The
# same command resumes.
set -euo pipefail

if (($# < 3)); then
    echo "usage: $0 TPU_NAME ZONE OPTION..." >&2
    exit 2
fi
name=$1 zone=$2
shift 2
printf -v options ' %q' "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd hypernet_jax && ${PYTHON:-python3} train.py --coordinator=auto$options"
