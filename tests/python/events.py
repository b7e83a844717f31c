"""TensorBoard's events against TensorBoard's own reader, while a search runs, after it was killed, and at its end.

    venv/bin/pip install tensorboard
    cargo build --release
    venv/bin/python tests/python/events.py target/release/strait
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STRAIT = str(Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/strait").resolve())
EPOCHS = 6
wrong = 0


def check(what, holds):
    global wrong
    wrong += not holds
    print("ok   " if holds else "WRONG", what, flush=True)


def read(events):
    found = EventAccumulator(str(events), size_guidance={"histograms": 0, "tensors": 0, "scalars": 0})
    found.Reload()
    return found


def lines(run, name):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def while_it_runs(run):
    """Starts a search, waits for its second epoch's event, and kills it."""
    args = ["search", "--epochs", EPOCHS, "--set", "warmup_epochs=1", "--set", "retrain_epochs=2", "--tensorboard", "-q"]
    search = subprocess.Popen([STRAIT, *map(str, args), "--out", str(run)])
    for _ in range(600):
        time.sleep(0.2)
        events = run / "tensorboard"
        if events.is_dir() and "search/tau" in (found := read(events)).Tags()["scalars"]:
            steps = [event.step for event in found.Scalars("search/tau")]
            if len(steps) >= 2:
                break
    check(f"epochs {steps} could be read while the search ran", search.poll() is None and steps[:2] == [0, 1])
    search.kill()
    search.wait()


def equal(found, tag, expected):
    events = [(event.step, event.value) for event in found.Scalars(tag)]
    steps = [step for step, _ in events] == [step for step, _ in expected]
    close = all(abs(a[1] - b[1]) <= 1e-6 * max(1, abs(b[1])) for a, b in zip(events, expected))
    check(f"{tag}: {len(events)} values", steps and close)


def at_the_end(run, events):
    found, epochs, training = read(events), lines(run, "epochs.jsonl"), lines(run, "train.jsonl")
    check(f"{len(epochs)} epochs, {len(training)} of training", len(epochs) == EPOCHS and len(training) == 2)
    equal(found, "search/weights/loss", [(line["epoch"], line["weights"]["loss"]) for line in epochs])
    equal(found, "search/weights/accuracy", [(line["epoch"], line["weights"]["accuracy"]) for line in epochs])
    equal(found, "search/tau", [(line["epoch"], line["tau"]) for line in epochs])
    equal(found, "search/entropy", [(line["epoch"], line["entropy"]) for line in epochs])
    equal(found, "gap/derived", [(line["epoch"], line["gap"]["derived"]["accuracy"]) for line in epochs if line["gap"]])
    for name in ("variance", "noise_to_signal"):
        equal(found, f"gradient/{name}", [(line["epoch"], line["noise"][name]) for line in epochs if line["noise"]])
    equal(found, "training/accuracy", [(line["epoch"], line["score"]["accuracy"]) for line in training])
    for group in epochs[0]["groups"]:
        histograms = [event.histogram_value for event in found.Histograms(f"logits/{group['name']}")]
        count = sum(len(row) for row in group["logits"])
        right = len(histograms) == EPOCHS and all(one.num == count == sum(one.bucket) for one in histograms)
        check(f"logits/{group['name']}: {len(histograms)} histograms of {count}", right)
    texts = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("genotype")]
    check(f"genotype: {len(texts)} texts", texts == [line["genotype"] for line in epochs])


with tempfile.TemporaryDirectory() as folder:
    run, events = Path(folder) / "run", Path(folder) / "events"
    while_it_runs(run)
    subprocess.run([STRAIT, "search", "--resume", str(run), "--tensorboard", "-q"], check=True, capture_output=True)
    print("what the search wrote, killed once and resumed:")
    at_the_end(run, run / "tensorboard")
    subprocess.run([STRAIT, "report", str(run), "--tensorboard", str(events)], check=True, capture_output=True)
    print("what the report wrote:")
    at_the_end(run, events / "run")
raise SystemExit(1 if wrong else 0)
