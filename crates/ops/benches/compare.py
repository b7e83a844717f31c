#!/usr/bin/env python3
"""One search step in strait and in PyTorch, alternately, and the ratios.

    python compare.py --strait target/release/strait --peer torch_gdas.py --threads 2 --rounds 3

`--peer` is a script with the options and JSON keys of `strait bench step` (--space nb201|darts, --estimator
gdas|st-full|darts, --schedule latin); the interpreter that runs this one needs PyTorch for it. On a busy machine only
ratios of neighboring runs count, so every round runs all programs one after the other, and a ratio is taken within
the round. CPU seconds are those of the whole process, start-up included: they tell waiting from working.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

# row: strait's space, its estimator, the peer's space, its estimator, steps of either: two cycles of a latin schedule, since a
# program that runs for a second or two may still be given its memory in the first (a virtual machine asks its host for it)
ROWS = {
    "nb201-gdas": ("nas-bench-201", "gdas", "nb201", "gdas", 10),
    "nb201-gumbel-st": ("nas-bench-201", "gumbel-st", "nb201", "st-full", 10),
    "nb201-darts": ("nas-bench-201", "darts", "nb201", "darts", 4),
    "darts-gdas": ("darts", "gdas", "darts", "gdas", 16),
    "darts-darts": ("darts", "darts", "darts", "darts", 2),
}
BEST = ["--channels-last", "--lean"]


def run(command):
    """The JSON object that a command prints, with the CPU seconds it used."""
    before = os.times()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(done.stdout.splitlines()[-1]) | {"cpu_s": cpu}


def commands(options, row):
    space, estimator, peer_space, peer_estimator, steps = ROWS[row]
    shared = ["--schedule", "latin", "--threads", str(options.threads), "--steps", str(steps)]
    strait = [options.strait, "bench", "step", "--space", space, "--estimator", estimator, *shared, "--json"]
    peer = [sys.executable, options.peer, "--space", peer_space, "--estimator", peer_estimator, *shared]
    if options.precision == "bf16":
        strait, peer = strait + ["--precision", "bf16"], peer + ["--amp"]
    programs = {"strait": strait, "best": peer + BEST}
    return programs if options.best_only else programs | {"default": peer}


def spread(values):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})" if high < 100 else f"{middle:.0f} ({low:.0f}–{high:.0f})"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--strait", required=True, help="the binary")
    arguments.add_argument("--peer", required=True, help="the script that runs the same step in PyTorch")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    arguments.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of both; PyTorch's is its autocast (`--amp`)")
    arguments.add_argument("--best-only", action="store_true", help="leave PyTorch's default out")
    arguments.add_argument("--key", default="min_ms_per_step", help="which time is compared")
    options = arguments.parse_args()
    print(f"median of {options.rounds} rounds (least–most), {options.threads} threads, {options.precision}, {options.key}\n")
    print("| step | program | ms a step | MB | CPU s | PyTorch / strait |")
    print("|---|---|---|---|---|---|")
    for row in options.rows:
        rounds = []
        for _ in range(options.rounds):
            rounds.append({name: run(command) for name, command in commands(options, row).items()})
        for name in rounds[0]:
            times = [found[name][options.key] for found in rounds]
            memory = max(found[name]["peak_rss_mb"] for found in rounds)
            cpu = [found[name]["cpu_s"] for found in rounds]
            ratios = [found[name][options.key] / found["strait"][options.key] for found in rounds]
            ratio = spread(ratios) if name != "strait" else ""
            print(f"| {row} | {name} | {spread(times)} | {memory:.0f} | {spread(cpu)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
