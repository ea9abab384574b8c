"""`st4rtrack convert`: checkpoints of the official releases to safetensors, or any model to ONNX."""

from pathlib import Path
from typing import Annotated

import tyro


def convert(
    source: tyro.conf.Positional[str],
    output: tyro.conf.Positional[Path],
    /,
    height: int | None = None,
    width: int | None = None,
    dynamic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    split: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Convert a checkpoint (St4RTrack, DUSt3R-512-dpt, MASt3R, MonST3R; .pth or folder) to safetensors with its configuration.

    Or, to OUTPUT.onnx, any model to ONNX.

    Args:
        source: Checkpoint file, model folder or hub id; "tiny" is the embedded model.
        output: A .safetensors file; a folder, which gets model.safetensors and config.json; or an .onnx file, which is then
            checked with ONNX Runtime.
        height: ONNX: of the images in pixels, a multiple of the patch size. Default: 16:9.
        width: ONNX: of the images in pixels, a multiple of the patch size. Default: the model's own size.
        dynamic: ONNX: leave batch, height and width open.
        split: ONNX: encoder and decoder apart, so that an image is encoded once for all its pairs; always so for a network
            with hints.
        overwrite: Replace what is there.
    """
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.voice import say, wrote
    from st4rtrack.types import UserError

    log_to_stderr()
    if output.suffix == ".onnx":
        from st4rtrack.model.checkpoint import load_model
        from st4rtrack.model.onnx import export_onnx

        model = load_model(source, device="cpu", dtype="float32")
        size = {"height": height, "width": width}
        for path in export_onnx(model, output, **size, dynamic=dynamic, split=split, overwrite=overwrite):
            wrote(path, remark=", which ONNX Runtime computes as PyTorch does")
        return
    if dynamic or split or height is not None or width is not None:
        raise UserError("--height, --width, --dynamic and --split are for an OUTPUT that ends in .onnx")

    from st4rtrack.model.checkpoint import convert_checkpoint

    for path in convert_checkpoint(source, output, overwrite=overwrite):
        wrote(path)
    say(f"use it with: st4rtrack run VIDEO --model {output}")
