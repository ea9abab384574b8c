"""Workers as actors of a Ray cluster: Ray schedules them, restarts them and retries their videos."""

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from st4rtrack.batch.jobs import Job, Outcome
from st4rtrack.batch.worker import CORES_PER_WORKER, KILLED, BatchOptions, Worker
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError


class RayWorker:
    """Actor that makes one scene after another."""

    def __init__(self, actor: Any, device: str) -> None:
        self._actor, self.device = actor, device

    def __call__(self, job: Job) -> Outcome:
        """Return the outcome of a video; errors of the worker itself, such as a model that cannot be loaded, are raised."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            outcome: Any = ray.get(self._actor.reconstruct.remote(job))
        except RayActorError:
            return Outcome.of(job, "failed", reason=KILLED.format(how="see Ray's logs"))
        except RayTaskError as error:
            raise error.cause from None
        if outcome.traceback:  # an internal error may leave a GPU unusable for this process
            ray.kill(self._actor, no_restart=False)
        return outcome

    def close(self) -> None:
        """End the actor, whatever it is doing."""
        import ray

        ray.kill(self._actor)


@contextlib.contextmanager
def ray_workers(
    options: BatchOptions, *, address: str, device: str, workers: int | None, videos: int
) -> Iterator[list[RayWorker]]:
    """Provide workers of a cluster, for the duration of the context.

    Args:
        options: options of all videos.
        address: address of a cluster; "auto": the cluster of this machine, else a new local one that ends with the context.
        device: "auto" (GPUs of the cluster if it has any, else processors), "cuda" or "cpu".
        workers: number of workers. Default: one per GPU, or one for every two processors.
        videos: number of videos; there are at most as many workers.
    Raises:
        UserError: Ray is not installed, there is no cluster, or the cluster lacks the device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"with --ray, --device must be auto, cpu or cuda (Ray assigns the GPUs), got {device}")
    with _connected(address) as ray:
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in found]
        has_gpu = any(gpus for _, gpus in nodes)
        if device == "cuda" and not has_gpu:
            raise UserError("the cluster has no GPU; use --device cpu")
        device = "cuda" if has_gpu and device != "cpu" else "cpu"
        count, cpus, gpus = shares(nodes, device, workers)
        actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=1)(Worker)
        yield [RayWorker(actor.remote(options, device, max(1, cpus)), device) for _ in range(min(count, videos))]


def shares(nodes: Sequence[tuple[int, int]], device: str, workers: int | None) -> tuple[int, int, float]:
    """Divide a cluster among workers, such that all fit at once.

    Args:
        nodes: (processors, GPUs) of each machine.
        device: "cuda" or "cpu".
        workers: requested number of workers. Default: one per GPU, or one for every two processors.
    Returns:
        (workers, processors of each, GPUs of each); several share a GPU if more are requested than there are GPUs.
    """
    if device == "cuda":
        gpus = sum(gpus for _, gpus in nodes)
        per_gpu = math.ceil((workers or gpus) / gpus)
        return workers or gpus, min(cpus // (gpus * per_gpu) for cpus, gpus in nodes if gpus), 1 / per_gpu
    cores = [cpus for cpus, _ in nodes if cpus] or [1]
    count = min(workers or max(1, sum(cpus // CORES_PER_WORKER for cpus in cores)), sum(cores))
    return count, next(share for share in range(max(cores), 0, -1) if sum(cpus // share for cpus in cores) >= count), 0


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster; usage statistics are off, and a cluster started here is removed completely."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--ray needs Ray; install it with: {install_extra('cluster')}") from error
    temporary: str | None = None
    quiet = {"logging_level": "error", "log_to_driver": False}
    try:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            if address != "auto":
                raise UserError(f"there is no Ray cluster at {address} ({error}); check it, or use --ray auto") from error
            # Ray's sockets are in this folder, and the path of a socket is limited to 107 characters
            temporary = tempfile.mkdtemp(prefix="st4rtrack-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
            ray.init(address="local", include_dashboard=False, _temp_dir=temporary, object_store_memory=100 * 2**20, **quiet)
        yield ray
    finally:
        ray.shutdown()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
