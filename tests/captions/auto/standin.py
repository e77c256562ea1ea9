"""A small tagger with the interface of the WD taggers: the average colour decides over the tags, so they can be foretold."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 448
# name, category, weights of (blue, green, red) from 0 to 1 and a bias: probability = sigmoid(weights . colour + bias)
TAGS: list[tuple[str, int, tuple[float, float, float], float]] = [
    ("general", 9, (0, 0, 0), 1.0),
    ("sensitive", 9, (0, 0, 4), -3.0),
    ("questionable", 9, (0, 0, 0), -3.0),
    ("explicit", 9, (0, 0, 0), -4.0),
    ("red_theme", 0, (-8, -8, 8), -2.0),
    ("green_theme", 0, (-8, 8, -8), -2.0),
    ("blue_theme", 0, (8, -8, -8), -2.0),
    ("white_background", 0, (8, 8, 8), -20.0),
    ("dark", 0, (-6, -6, -6), 4.0),
    ("long_hair", 0, (0, 0, 2), -1.0),
    (">_<", 0, (0, 0, 3), -1.5),
    ("(o)_(o)", 0, (0, 3, 0), -1.5),
    ("outdoors", 0, (1, 2, -1), 0.0),
    ("hatsune_miku", 4, (6, 6, -9), -1.0),
    ("red_riding_hood_(grimm)", 4, (-9, -9, 12), -1.0),
]


def write(
    folder: Path,
    *,
    batch: int | None = None,
    side: int = SIDE,
    tags: int | None = None,
    table: int | None = None,
) -> Path:
    """A tagger folder. batch: fixed size of the batch axis; tags / table: outputs / rows, to make them disagree."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = TAGS[:tags]
    weights = np.array([t[2] for t in chosen], np.float32).T / 255
    bias = np.array([t[3] for t in chosen], np.float32)
    axis = batch or "N"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["output"]),
        ],
        "standin",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [axis, side, side, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [axis, len(chosen)])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(bias, "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, str(folder / "model.onnx"))
    write_table(folder, [(name, category) for name, category, _, _ in TAGS[:table]])
    return folder


def write_table(folder: Path, rows: list[tuple[str, int]]) -> None:
    """`selected_tags.csv` as the WD taggers have it."""
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(["tag_id", "name", "category", "count"])
        out.writerows([i, name, category, 1000 - i] for i, (name, category) in enumerate(rows))
