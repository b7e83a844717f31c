"""Exports against PyTorch, onnx.checker and onnxruntime, for a child of every shipped space.

    python -m venv venv && venv/bin/pip install torch onnx onnxruntime safetensors numpy pillow
    cargo build --release
    venv/bin/python tests/python/exports.py target/release/strait

For each space: a small child is trained for one epoch, exported in all formats, and the logits that `strait predict`
gives for test digits are compared with those of `model.py` (to 1e-5 of the largest logit), of the ONNX model as it is
and with folded batch norms (1e-4). Parameter counts of all of them must agree, and multiply-accumulates with those that
follow from onnx's own shapes. Ends with code 1 if anything differs.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from safetensors.torch import load_file

STRAIT = [str(Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/strait").resolve())]
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
UNREACHED = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def darts(*ops):
    """A DARTS tuple whose edges read nodes 0 and 1 and take `ops` in turn."""
    edges = ", ".join(f"('{ops[i % len(ops)]}', {i % 2})" for i in range(8))
    cell = "[2, 3, 4, 5]"
    return f"Genotype(normal=[{edges}], normal_concat={cell}, reduce=[{edges}], reduce_concat={cell})"


# What every space's child is made of: a genotype, and settings beside those of all.
ALL = "max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5".split()
SPACES = [
    ("digits", CELL, []),
    ("nas-bench-201", CELL, ["--cells", "1"]),
    ("nas-bench-201", UNREACHED, ["--cells", "1"]),
    ("darts", darts(*ALL), ["--cells", "3"]),
    ("darts", darts(*ALL[2:]), ["--cells", "5"]),
    ("darts-imagenet", darts(*ALL), ["--cells", "3"]),
    ("darts-s2", darts("skip_connect", "sep_conv_3x3", "sep_conv_3x3"), ["--cells", "3"]),
    ("darts-s3", darts("sep_conv_3x3", "skip_connect", "skip_connect"), ["--cells", "3"]),
    ("darts-s4", darts("sep_conv_3x3"), ["--cells", "3"]),
    ("darts-s1", None, ["--cells", "3"]),
    ("mobile", None, []),
    ("series-1d", None, ["--set", "data.as=series"]),
    ("mlp", None, []),
]


def strait(*args):
    done = subprocess.run([*STRAIT, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"strait {' '.join(map(str, args))}\n{done.stderr}")
    return done.stdout


def write_table(path, images):
    """Ten digits and noisy copies of them, for spaces without spatial axes."""
    rng = np.random.default_rng(0)
    with open(path, "w") as table:
        for _ in range(20):
            for label, image in enumerate(images):
                pixels = np.clip(image.ravel() + 0.1 * rng.standard_normal(image.size), 0, 1)
                table.write(",".join(f"{pixel:.6f}" for pixel in pixels) + f",{label}\n")


def load_module(path):
    spec = importlib.util.spec_from_file_location("model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def macs_of(model):
    """Multiply-accumulates for one example, by the shapes that onnx infers."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    sizes = {one.name: [axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in [*graph.value_info, *graph.output]}
    weights = {one.name: list(one.dims) for one in graph.initializer}
    macs = 0
    for node in graph.node:
        if node.op_type == "Conv":
            macs += int(np.prod(sizes[node.output[0]][1:])) * int(np.prod(weights[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            macs += int(np.prod(weights[node.input[1]]))
    return macs


def run_onnx(path, x, params, macs):
    """Checks a model and gives its logits, for a batch and for one example alone."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    learned = (".weight", ".bias")
    counted = sum(int(np.prod(one.dims)) for one in model.graph.initializer if one.name.endswith(learned))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = session.run(["logits"], {"input": x})[0]
    alone = session.run(["logits"], {"input": x[:1]})[0]
    assert np.abs(whole[:1] - alone).max() < 1e-4, "a batch of one differs"
    return whole, [counted - params, macs_of(model) - macs]


def compare(work, images, name, genotype, settings):
    run, searched = work / "run", work / "searched"
    data = f"csv:{work / 'digits.csv'}" if name == "mlp" else "digits"
    if genotype is None:
        shared = [s for s in settings if s not in ("--cells", "3")]
        strait("search", name, "--data", data, "--epochs", 1, "--out", searched, "--force", "--set",
               "warmup_epochs=0", "--set", "retrain_epochs=0", "--batch", 256, "-q", *shared)
        genotype = searched
    space = [] if genotype is searched else ["--space", name]
    strait("train", genotype, *space, "--data", data, "--epochs", 1, "--channels", 4, "--batch", 128,
           "--out", run, "--force", "-q", *settings)
    strait("export", run, "--format", "all", "-o", work / "all")
    strait("export", run, "--format", "onnx", "--fold-batch-norm", "-o", work / "folded.onnx")
    told = json.loads(strait("verify", work / "all/network.safetensors", "--json"))
    params, macs = told["params"], told["macs"]

    # Images are (8, 8); series have columns as time and rows as channels, so that their rows are the transpose.
    examples = np.stack([image.T if name == "series-1d" else image for image in images]).astype(np.float32)
    with open(work / "rows.csv", "w") as rows:
        rows.writelines(",".join(repr(float(v)) for v in image.ravel()) + "\n" for image in examples)
    told = json.loads(strait("predict", run, work / "rows.csv", "--json"))["predictions"]
    ours = np.array([one["logits"] for one in told])

    module = load_module(work / "all/model.py")
    mean, deviation = (np.array(v, np.float32) for v in (module.MEAN, module.DEVIATION))
    if name == "mlp":
        x = (examples.reshape(len(examples), -1) - mean) / deviation
    elif name == "series-1d":
        x = ((examples - mean) / deviation).transpose(0, 2, 1)  # (N, L, C) as (N, C, L)
    else:
        x = ((examples[..., None] - mean) / deviation).transpose(0, 3, 1, 2)
    x = np.ascontiguousarray(x, np.float32)

    model = module.Model()
    model.load_state_dict(load_file(work / "all/weights.safetensors"))
    model.eval()
    with torch.no_grad():
        of_torch = model(torch.from_numpy(x)).numpy()
    surplus = [sum(p.numel() for p in model.parameters()) - params]
    of_onnx, more = run_onnx(str(work / "all/network.onnx"), x, params, macs)
    surplus += more
    of_folded, _ = run_onnx(str(work / "folded.onnx"), x, params, macs)

    scale = np.abs(ours).max()
    off = [float(np.abs(ours - theirs).max()) for theirs in (of_torch, of_onnx, of_folded)]
    ok = off[0] <= 1e-5 * max(scale, 1) and max(off[1:]) <= 1e-4 * max(scale, 1) and surplus == [0, 0, 0]
    print(f"{name:<14} {params:>9,} weights {macs:>11,} MACs  torch {off[0]:.1e}  onnx {off[1]:.1e}  folded {off[2]:.1e}  "
          f"{'ok' if ok else f'DIFFERS {surplus}'}", flush=True)
    return ok


def main():
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        strait("data", "digits", "--examples", work / "pictures")
        pictures = [work / f"pictures/{label}.png" for label in range(10)]
        images = [np.asarray(Image.open(path).convert("L"), np.float32) / 255 for path in pictures]
        write_table(work / "digits.csv", images)
        right = [compare(work, images, *space) for space in SPACES]
    raise SystemExit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
