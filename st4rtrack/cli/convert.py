"""`st4rtrack convert`: convert checkpoints of the official releases to safetensors."""

from pathlib import Path

import tyro


def convert(
    source: tyro.conf.Positional[str],
    output: tyro.conf.Positional[Path],
    /,
    overwrite: bool = False,
) -> None:
    """Convert a checkpoint (St4RTrack, DUSt3R-512-dpt, MASt3R, MonST3R) to safetensors with config.json.

    Args:
        source: Name (st4rtrack models), checkpoint file, model folder or hub id.
        output: A .safetensors file, or a folder for model.safetensors and config.json.
        overwrite: Replace an existing output.
    """
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.model.checkpoint import convert_checkpoint
    from st4rtrack.types import UserError

    log_to_stderr()
    if output.suffix == ".onnx":
        raise UserError(f"{output}: ONNX export was removed; pass an OUTPUT that ends in .safetensors, or a folder")
    for path in convert_checkpoint(source, output, overwrite=overwrite):
        wrote(path)
    say(f"use it with: st4rtrack run VIDEO --model {output}")
