#!/bin/bash
# Trains on a TPU slice: runs one command on all of its hosts.
#
#   launch/tpu_vm.sh TPU_NAME ZONE --config=configs/denoise.py --workdir=gs://BUCKET/runs/denoise
#
# Every host needs this repository in ~/hypernet_jax, installed with the extras tpu, train and gcs.
# The same command resumes.
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
