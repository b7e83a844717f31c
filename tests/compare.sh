#!/usr/bin/env bash
# Which estimator decides best on the digits? Every one searches with several seeds, its child is trained from scratch and
# tested; beside them other temperatures for the default estimator, children at random (logits that never move) and uniform
# sampling with shared weights (the best of 50 drawn children). Prints mean, standard deviation of the seeds, and seconds of
# processor time of a search with its child.
#
#   tests/compare.sh ["SEED…"] [STRAIT] [SEARCH ARGUMENTS…]
#
# by default seeds 0 to 4 of target/release/strait on the whole default search: 42 minutes of processor time on a Zen 4.
# Results go to comparison.csv in the current folder as they come; a line that is there is not computed again. Needs awk.
set -euo pipefail
TIMEFORMAT='%U %S'
seeds=${1:-0 1 2 3 4}
strait=${2:-target/release/strait}
[ $# -ge 2 ] && shift 2 || shift $#
[ $# -gt 0 ] || set -- digits

table=comparison.csv
[ -f "$table" ] || echo "estimator,seed,accuracy,seconds" >"$table"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Name of the row, seed, and what sets it apart.
row() {
    local name=$1 seed=$2 accuracy
    shift 2
    ! grep -q "^$name,$seed," "$table" || return 0
    rm -rf "$dir/run"
    { time "$strait" -q search $search --seed "$seed" --out "$dir/run" --set watch.draws=0 "$@" --json \
        >"$dir/result.json" 2>"$dir/errors"; } 2>"$dir/time" || {
        cat "$dir/errors" >&2 # a child without a path, for one: the row is left out
        return 0
    }
    accuracy=$(sed -n 's/.*"test_accuracy": *\([0-9.]*\).*/\1/p' "$dir/result.json" | head -1)
    echo "$name,$seed,$accuracy,$(awk '{ printf "%.1f", $1 + $2 }' "$dir/time")" >>"$table"
}

search=$*
for seed in $seeds; do
    for estimator in $("$strait" list estimators --json | tr ',' '\n' | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p'); do
        case $estimator in
            # ReinMax has a temperature of its own.
            reinmax) row "$estimator" "$seed" --estimator "$estimator" --set 'tau={schedule: constant, from: 1}' ;;
            *) row "$estimator" "$seed" --estimator "$estimator" ;;
        esac
    done
    st=(--estimator gumbel-st)
    row gumbel-st:tau-1 "$seed" "${st[@]}" --set 'tau={schedule: constant, from: 1}'
    row gumbel-st:tau-10-to-0.1 "$seed" "${st[@]}" --set 'tau={schedule: linear, from: 10, to: 0.1}'
    row gumbel-st:learned "$seed" "${st[@]}" --set tau.policy=learned --set arch.entropy_bonus=0.01
    row gumbel-st:adaptive "$seed" "${st[@]}" --set tau.policy=adaptive --set watch.draws=8
    row random "$((seed + 10))" --set arch.lr=0 --epochs 1 --set warmup_epochs=0
    row uniform "$seed" --set arch.lr=0 --set rule=sampled:50
done
awk -F, 'NR > 1 { n[$1]++; s[$1] += $3; q[$1] += $3 * $3; t[$1] += $4 }
    END { for (e in n) { m = s[e] / n[e]; v = n[e] > 1 ? (q[e] - n[e] * m * m) / (n[e] - 1) : 0
        printf "%-24s %.4f ± %.4f, %d seeds, %.0f s\n", e, m, sqrt(v > 0 ? v : 0), n[e], t[e] / n[e] } }' "$table" | sort -k2 -r
