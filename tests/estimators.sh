#!/bin/sh
# Every estimator on the digits and on NAS-Bench-201, in short searches: one that ran through on one thread and one that was
# killed at some instant and resumed on two threads leave the same bytes. (So short a search may decide for a child without a
# path, which ends with an error and a whole run directory.)
#
#   tests/estimators.sh [STRAIT] [SPACE…]
#
# by default target/release/strait on digits and nas-bench-201; the data are the embedded digits. Needs cmp and awk.
set -eu
strait=${1:-target/release/strait}
[ $# -ge 1 ] && shift
[ $# -gt 0 ] || set -- digits nas-bench-201

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for space in "$@"; do
    for estimator in $("$strait" list estimators --json | tr ',' '\n' | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p'); do
        search() {
            exec "$strait" -q search "$space" --data digits --estimator "$estimator" --epochs 2 --batch 32 \
                --set warmup_epochs=1 --set fraction=0.05 --set gap_batches=1 --set last_gap_batches=1 \
                --set watch.draws=2 --set retrain_epochs=0 --save-every 0 "$@" >/dev/null
        }
        rm -rf "$dir/whole" "$dir/killed"
        begun=$(date +%s.%N)
        (search --threads 1 --out "$dir/whole") 2>"$dir/said" || grep "no path from input to output" "$dir/said"
        span=$(awk "BEGIN { print $(date +%s.%N) - $begun }")
        (search --threads 2 --out "$dir/killed") 2>/dev/null &
        pid=$!
        # Somewhere in the second half, where logits move.
        sleep "$(awk "BEGIN { srand($(date +%N)); printf \"%.3f\", (0.4 + 0.4 * rand()) * $span }")"
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        if [ -f "$dir/killed/config.yaml" ]; then
            "$strait" -q search --resume "$dir/killed" --threads 2 >/dev/null 2>"$dir/said"
        else
            (search --threads 2 --out "$dir/killed") 2>"$dir/said"
        fi || grep -q "no path from input to output" "$dir/said"
        cmp "$dir/whole/search.safetensors" "$dir/killed/search.safetensors"
        for file in genotype.yaml epochs.jsonl result.json; do
            [ ! -f "$dir/whole/$file" ] || cmp "$dir/whole/$file" "$dir/killed/$file"
        done
        echo "$space, $estimator: same bytes"
    done
done
