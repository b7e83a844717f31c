"""A trained network and its exports on a whole test part of IDX files: the same answers?

    venv/bin/pip install torch onnx onnxruntime safetensors numpy
    strait export runs/fashion-trained --format all -o exported/
    venv/bin/python tests/python/predictions.py target/release/strait runs/fashion-trained exported/ fashion-mnist/

Compares the answers of `strait predict` with those of `model.py` in PyTorch, of `network.onnx` in onnxruntime and of
`network.safetensors` in strait. An answer may differ where the two largest logits are closer than 1e-4: a tie.
"""

import gzip
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

strait, run, exported, data = sys.argv[1:5]
exported, data = Path(exported), Path(data)
TIE = 1e-4


def idx(name):
    """The numbers of an IDX file of bytes, gzipped or not."""
    path = data / name
    bytes_ = path.read_bytes() if path.exists() else gzip.decompress((data / f"{name}.gz").read_bytes())
    axes = bytes_[3]
    sizes = np.frombuffer(bytes_, ">u4", axes, 4).astype(int)
    return np.frombuffer(bytes_, np.uint8, -1, 4 + 4 * axes).reshape(sizes)


images, labels = idx("t10k-images-idx3-ubyte").astype(np.float32) / 255, idx("t10k-labels-idx1-ubyte")


folder = tempfile.TemporaryDirectory()
rows = Path(folder.name) / "rows.csv"
with open(rows, "w") as table:
    levels = [f"{np.float32(level) / np.float32(255):.9g}" for level in range(256)]
    table.writelines(",".join(levels[byte] for byte in image) + "\n" for image in idx("t10k-images-idx3-ubyte").reshape(len(images), -1))


def in_strait(model):
    told = subprocess.run([strait, "predict", str(model), str(rows), "--json"], check=True, capture_output=True)
    return np.array([one["logits"] for one in json.loads(told.stdout)["predictions"]])


spec = importlib.util.spec_from_file_location("model", exported / "model.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
mean, deviation = np.float32(module.MEAN), np.float32(module.DEVIATION)
x = ((images[:, None] - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)
batches = [x[start:start + 500] for start in range(0, len(x), 500)]


def in_torch():
    model = module.Model()
    model.load_state_dict(load_file(exported / "weights.safetensors"))
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(batch)).numpy() for batch in batches])


def in_onnxruntime():
    session = onnxruntime.InferenceSession(str(exported / "network.onnx"), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"input": batch})[0] for batch in batches])


ours = in_strait(run)
answers = ours.argmax(1)
top = np.sort(ours, 1)
gap = top[:, -1] - top[:, -2]
print(f"strait            accuracy {(answers == labels).mean():.4f} of {len(labels)}")
right = True
for name, logits in [("safetensors", in_strait(exported / "network.safetensors")), ("PyTorch", in_torch()), ("onnxruntime", in_onnxruntime())]:
    other = logits.argmax(1)
    apart = np.flatnonzero(other != answers)
    real = apart[gap[apart] >= TIE]
    right &= len(real) == 0
    print(f"{name:<17} accuracy {(other == labels).mean():.4f}, {len(apart)} answers differ, {len(real)} of them no ties, "
          f"logits within {np.abs(logits - ours).max():.1e}")
raise SystemExit(0 if right else 1)
