#!/bin/bash
# Several processes on one machine, by torchrun: each does its share of a stage, and takes its own GPU if there are several.
#
#   JOBS=4 bash torchrun.sh featurize -d my_project
set -euo pipefail
torchrun --standalone --nproc-per-node="${JOBS:-4}" --max-restarts=1 --no-python trak "$@"
