#!/bin/bash
# featurize, finalize and score as three job arrays, each of which starts when all tasks of the one before have succeeded.
#
#   TASKS=64 FEATURIZE="--gpus-per-node=1 --time=02:00:00" bash chain.sh -d my_project
#
# After a failure, run it again: finished work is skipped.
set -euo pipefail
script="$(dirname "$0")/array.sbatch"
last=$((${TASKS:-4} - 1))

send() {  # stage, options of sbatch, options of trak
    local stage=$1 options=$2
    shift 2
    # shellcheck disable=SC2086
    sbatch --parsable --job-name="trak_$stage" --array="0-$last" --kill-on-invalid-dep=yes $options "$script" "$stage" "$@"
}

features=$(send featurize "${FEATURIZE:-}" "$@")
grams=$(send finalize "--dependency=afterok:$features ${FINALIZE:-}" "$@")
scores=$(send score "--dependency=afterok:$grams ${SCORE:-}" "$@")
echo "featurize $features, finalize $grams, score $scores"
