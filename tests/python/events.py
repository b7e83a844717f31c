"""Event files against TensorBoard's own reader.

    venv/bin/pip install tensorboard
    strait report runs/digits-seed0 --tensorboard events
    venv/bin/python tests/python/events.py runs/digits-seed0 events/digits-seed0
"""

import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run, events = map(Path, sys.argv[1:3])
read = EventAccumulator(str(events), size_guidance={"histograms": 0, "tensors": 0, "scalars": 0})
read.Reload()
lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
tags = read.Tags()
wrong = 0


def check(what, holds):
    global wrong
    wrong += not holds
    print("ok   " if holds else "WRONG", what)


def equal(tag, expected):
    found = [(event.step, event.value) for event in read.Scalars(tag)]
    steps = [step for step, _ in found] == [step for step, _ in expected]
    check(f"{tag}: {len(found)} values", steps and all(abs(a[1] - b[1]) <= 1e-6 * max(1, abs(b[1])) for a, b in zip(found, expected)))


equal("search/weights/loss", [(line["epoch"], line["weights"]["loss"]) for line in lines])
equal("search/weights/accuracy", [(line["epoch"], line["weights"]["accuracy"]) for line in lines])
equal("search/tau", [(line["epoch"], line["tau"]) for line in lines])
equal("search/entropy", [(line["epoch"], line["entropy"]) for line in lines])
equal("gap/derived", [(line["epoch"], line["gap"]["derived"]["accuracy"]) for line in lines if line["gap"]])
for group in lines[0]["groups"]:
    histograms = read.Histograms(f"logits/{group['name']}")
    count = sum(len(row) for row in group["logits"])
    check(f"logits/{group['name']}: {len(histograms)} histograms of {count}", len(histograms) == len(lines) and all(h.histogram_value.num == count for h in histograms))
texts = [event.tensor_proto.string_val[0].decode() for event in read.Tensors("genotype")]
check(f"genotype: {len(texts)} texts", texts == [line["genotype"] for line in lines])
raise SystemExit(1 if wrong else 0)
