"""Stage 1: predict sequences to files on disk, one each; resumable.

The folder stores in `predictions.json` how its files were made, so that files of different options are never mixed.
"""

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from st4rtrack.bench.methods import PROTOCOL_DEPENDENT, make_method
from st4rtrack.bench.predictions import Method, write_prediction
from st4rtrack.bench.protocol import TAPVID3D, Protocol
from st4rtrack.io.files import write_whole
from st4rtrack.io.lock import locked
from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

MANIFEST = "predictions.json"
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def predict(
    data: str | Path,
    output: str | Path,
    method: str,
    options: MethodOptions,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Predict every sequence of a folder that has no prediction yet.

    Args:
        data: folder of WorldTrack sequences; its sub-folders are mirrored.
        output: folder of predictions; a folder that the same command began is resumed.
        method: a name in `METHODS`.
        options: options of the method.
        workers: number of processes, each with its own copy of the method.
        overwrite: replace all predictions, whatever options made them.
        progress: called with (sequences done, sequences in all).
    Returns:
        Paths of the existing files; a method that only tracks writes none for a sequence without tracks.
    Raises:
        UserError: no sequences, unknown method, missing input of the method, or a folder made with other options.
    """
    output = Path(output)
    if method == "st4rtrack" and options.model is None:
        options = replace(options, model="tiny")  # by name, so that the manifest identifies the network
    sequences = find_worldtrack(data)
    paths = [output / f"{name}.npz" for name, _ in sequences]
    assert isinstance(options.protocol, Protocol)
    manifest = {"format": 1, "method": method, **asdict(options), "protocol": options.protocol.name}
    manifest = json.loads(json.dumps(manifest, default=str))  # paths become text
    if options.model == "tiny":  # the name stays when its weights are replaced
        from st4rtrack.model.checkpoint import embedded_hash  # here, because scoring reads this module without a network

        manifest["weights"] = embedded_hash()
    if method not in PROTOCOL_DEPENDENT and manifest["protocol"] != TAPVID3D.name:
        manifest["protocol"] = None  # its predictions are valid for every protocol with these frames
    _require_folder(output, manifest, overwrite)
    with locked(output):
        if overwrite and any(path.exists() for path in paths):
            make_method(method, options)  # must not delete existing predictions if the method cannot be made
            for path in paths:
                path.unlink(missing_ok=True)
        missing = [k for k, path in enumerate(paths) if not path.exists()]
        _prepared.cache_clear()  # of an earlier call
        made_by = (method, options, workers, output, json.dumps(manifest, indent=1))
        tasks = [(*sequences[k], paths[k], made_by) for k in missing]
        for done, _ in enumerate(each(_predict_one, tasks, workers), start=len(paths) - len(missing) + 1):
            if progress:
                progress(done, len(paths))
    return [path for path in paths if path.exists()]


def each(run: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], workers: int) -> Iterator[ResultT]:
    """Yield results of `run(task)` in the order of the tasks.

    The first error stops the iteration, after the running tasks have finished.
    """
    if workers == 1 or len(tasks) <= 1:
        yield from map(run, tasks)
        return
    # spawned, not forked: a fork would copy the locks of PyTorch's and OpenCV's threads
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read how a folder of predictions was made; empty without a manifest (other tools need none).

    Raises:
        UserError: the manifest exists but cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
        return {str(key): value for key, value in manifest.items()}
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, or predict again with --overwrite") from error


def _require_folder(output: Path, manifest: dict[str, Any], overwrite: bool) -> None:
    if overwrite or not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; choose a folder for the predictions")
    if not (output / MANIFEST).exists():
        if any(not path.name.startswith(".") for path in output.iterdir()):  # a killed run may leave its lock
            raise UserError(f"{output} holds files that are not predictions; choose another folder, or use --overwrite")
        return
    before = read_manifest(output)
    for key in manifest:
        if before.get(key) != manifest[key]:
            raise UserError(
                f"{output} was predicted with {key} {before.get(key)!r}, not {manifest[key]!r}; "
                "choose another folder, or use --overwrite to replace all predictions"
            )


@lru_cache(maxsize=1)
def _prepared(method: str, options: MethodOptions, workers: int, output: Path, manifest: str) -> Method:
    """Make the method of this process, with its share of the cores; then the folder, so that invalid options leave none."""
    if workers > 1:  # before PyTorch is imported
        import cv2

        cores = max(1, (os.cpu_count() or 1) // workers)
        cv2.setNumThreads(cores)
        os.environ["OMP_NUM_THREADS"] = str(cores)
    made = make_method(method, options)
    write_whole(output / MANIFEST, f"{manifest}\n".encode())
    return made


def _predict_one(task: tuple[str, Path, Path, tuple]) -> None:
    name, source, path, made_by = task
    prediction = _prepared(*made_by)(read_worldtrack(source, name=name, num_frames=made_by[1].protocol.num_frames))
    if prediction.is_empty:
        logger.info("%s: skipped, this method has nothing to predict", name)
    else:
        write_prediction(path, prediction)
