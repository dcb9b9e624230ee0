#!/bin/bash
# Several processes on one machine, by GNU parallel: each does its share of a stage, and a process that fails is started again.
#
#   JOBS=4 bash parallel.sh featurize -d my_project threads=2
set -euo pipefail
jobs=${JOBS:-4}
seq 0 $((jobs - 1)) | parallel -I @TASK@ --jobs "$jobs" --retries 2 --tag --line-buffer --quote \
    trak "$@" worker.index=@TASK@ worker.count="$jobs"
