#!/bin/sh
# Planted truth, whole: 20 searches per estimator and plant, each with its own seed, on data that one candidate alone
# explains (products of pixels, stripes beside a border); the same with logits that do not learn; and the opposite plant.
# CI runs 3 seeds of each.
#
#   tests/planted.sh [SEEDS]
set -eu
cd "$(dirname "$0")/.."
STRAIT_PLANTED_SEEDS=${1:-20} cargo test --workspace --test whole_runs -- planted:: --nocapture --test-threads 1
