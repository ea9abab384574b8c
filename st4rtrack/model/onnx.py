"""A network as ONNX, for other runtimes: one graph for a pair of images, or an encoder and a decoder; checked against PyTorch.

What classical geometry tells a network with hints (`model/hints.py`) comes from OpenCV and PoseLib, which no graph holds: there
the hints are inputs of the decoder. `model/onnx_graphs.py` has the graphs.
"""

import importlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from st4rtrack.model.network import St4RTrack
from st4rtrack.model.onnx_graphs import HINTS as HINTS
from st4rtrack.model.onnx_graphs import MAPS as MAPS
from st4rtrack.model.onnx_graphs import Graph, example_inputs, graphs_of, open_axes
from st4rtrack.types import UserError

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference from PyTorch that an export may have, as a share of the largest value of that output."""

INLINE_BYTES = 1_500_000_000
"""Weights above this are a file of their own, `.onnx.data`: a protocol buffer ends at 2 GiB."""


def export_onnx(
    model: St4RTrack,
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    dynamic: bool = False,
    split: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a network as ONNX in float32 and checks the files with ONNX Runtime against PyTorch before they take their names.

    Args:
        model: the network, in float32 on the CPU.
        path: `NAME.onnx`. A network with hints, or `split`, makes `NAME.encoder.onnx` and `NAME.decoder.onnx` of it.
        height, width: of the images, multiples of the patch size; default 16:9 at the model's own size.
        dynamic: leave batch, height and width open; else one pair of that size.
        split: encoder and decoder apart, so that an image is encoded once for all pairs it is in.
        overwrite: replace files that are there.
    Returns:
        The graphs written; large weights stand beside a graph as `.onnx.data`.
    Raises:
        UserError: a package is missing, the size does not fit, or a file is there.
        RuntimeError: ONNX Runtime gives other numbers than PyTorch.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise UserError(f"{path} should end in .onnx")
    for module in ("onnxscript", "onnxruntime"):
        _need(module)
    size = network_size(model, height, width)
    split = split or model.config.hints
    targets = [path.with_suffix(ending) for ending in ((".encoder.onnx", ".decoder.onnx") if split else (".onnx",))]
    for file in (*targets, *(target.with_name(f"{target.name}.data") for target in targets)):
        if file.exists() and not overwrite:
            raise UserError(f"{file} exists already; choose another path, or replace it with --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    with folder as part:
        graphs = graphs_of(model, split=split)
        for graph, target in zip(graphs, targets, strict=True):
            _write(graph, Path(part) / target.name, model, size, dynamic)
        _check(graphs, [Path(part) / target.name for target in targets], model, size, dynamic)
        for file in sorted(Path(part).iterdir(), key=lambda file: file.suffix == ".onnx"):  # a graph comes after its weights
            shutil.move(file, path.parent / file.name)
    return targets


def network_size(model: St4RTrack, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width to export for; what is not given is 16:9 at the model's own size.

    Raises:
        UserError: a side is no multiple of the patch size.
    """
    patch = model.config.patch_size
    width = model.config.image_size // patch * patch if width is None else width
    height = max(1, round(width * 9 / 16 / patch)) * patch if height is None else height
    for name, side in (("height", height), ("width", width)):
        if side < patch or side % patch:
            raise UserError(f"--{name} must be a multiple of {patch}, the patch size of this network, got {side}")
    return height, width


def run_graph(session: Any, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Outputs of an ONNX Runtime session for inputs in the order of its own."""
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})


def open_session(path: Path, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU; 0 threads: as many as it likes.

    Raises:
        UserError: ONNX Runtime is not installed.
    """
    runtime = _need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _write(graph: Graph, path: Path, model: St4RTrack, size: tuple[int, int], dynamic: bool) -> None:
    inputs = example_inputs(graph, model, 2 if dynamic else 1, size)
    weight_bytes = sum(value.nbytes for value in graph.module.state_dict().values())
    with _quiet():
        torch.onnx.export(
            graph.module,
            inputs,
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            external_data=weight_bytes > INLINE_BYTES,
            dynamic_shapes=open_axes(graph, model.config.patch_size) if dynamic else None,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter has to say about itself; whether the graph is right is checked on its numbers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _check(graphs: list[Graph], paths: list[Path], model: St4RTrack, size: tuple[int, int], dynamic: bool) -> None:
    """Compares each graph with PyTorch, an open one at a second size too."""
    patch = model.config.patch_size
    cases = [(1, size), (3, (size[1] + patch, size[0]))] if dynamic else [(1, size)]
    for graph, path in zip(graphs, paths, strict=True):
        session = open_session(path)
        for batch, at_size in cases:
            inputs = example_inputs(graph, model, batch, at_size, seed=1)
            with torch.inference_mode():
                expected = graph.module(*inputs)
            expected = expected if isinstance(expected, tuple) else (expected,)
            for name, wanted, found in zip(graph.outputs, expected, run_graph(session, inputs), strict=True):
                difference = float(np.abs(found - wanted.numpy()).max() / wanted.abs().max())
                if not difference <= TOLERANCE:
                    raise RuntimeError(f"{path.name}: {name} differs from PyTorch by {difference:.1e} of its largest value")


def _need(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f'an ONNX export needs {module}; install it with: pip install "st4rtrack[onnx]"') from None
