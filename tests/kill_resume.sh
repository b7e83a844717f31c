#!/bin/sh
# Kills a search at random instants, resumes it each time, and compares the end with an undisturbed run.
#
#   tests/kill_resume.sh [KILLS] [STRAIT] [SEARCH ARGUMENTS…]
#
# by default 20 kills of target/release/strait on a short search of the embedded digits. Needs cmp and awk.
set -eu
kills=${1:-20}
strait=${2:-target/release/strait}
[ $# -ge 2 ] && shift 2 || shift $#
[ $# -gt 0 ] || set -- digits --epochs 4 --set warmup_epochs=1 --set retrain_epochs=1

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
begun=$(date +%s.%N)
"$strait" -q search "$@" --save-every 0 --out "$dir/whole" >/dev/null
span=$(awk "BEGIN { print $(date +%s.%N) - $begun }")

i=0
while [ "$i" -lt "$kills" ]; do
    i=$((i + 1))
    rm -rf "$dir/killed"
    "$strait" -q search "$@" --save-every 0 --out "$dir/killed" >/dev/null 2>&1 &
    pid=$!
    # A fresh instant anywhere in the run, to the millisecond.
    sleep "$(awk "BEGIN { srand($(date +%N) + $i); printf \"%.3f\", rand() * $span }")"
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    if [ -f "$dir/killed/config.yaml" ]; then
        "$strait" -q search --resume "$dir/killed" >/dev/null
    else
        "$strait" -q search "$@" --out "$dir/killed" >/dev/null
    fi
    for file in genotype.yaml search.safetensors train.safetensors epochs.jsonl train.jsonl result.json; do
        [ ! -f "$dir/whole/$file" ] || cmp "$dir/whole/$file" "$dir/killed/$file"
    done
    echo "kill $i of $kills: same bytes"
done
