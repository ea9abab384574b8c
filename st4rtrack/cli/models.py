"""`st4rtrack models` and `convert`: named models; checkpoints of the official releases as safetensors."""

from pathlib import Path

import tyro


def models(names: tyro.conf.Positional[tuple[str, ...]] = (), /) -> None:
    """List named models: licence, download size, memory on this machine, downloaded or not (docs/install.md).

    Args:
        names: Download these models now, for later use without a network.
    """
    from dataclasses import asdict

    from st4rtrack.cli.reporter import answer, reporter, say
    from st4rtrack.model.hub import size_text
    from st4rtrack.model.named import NAMED, suggestion
    from st4rtrack.types import UserError

    if unknown := [name for name in names if name not in NAMED]:
        raise UserError(f"no named model {unknown[0]!r}: {suggestion(unknown[0])}choose from: {', '.join(NAMED)}")
    for name in names:
        answer(f"{name}: {NAMED[name].fetch()}")
    if names:
        return
    from st4rtrack.doctor.report import MemoryNeed, precision_of
    from st4rtrack.model.device import choose_device

    device = choose_device("auto")
    rows = [("name", "downloaded", "size", "memory" if device.type == "cpu" else "GPU memory", "licence, purpose")]
    for name, model in NAMED.items():
        need = MemoryNeed.of(name, device, precision_of(name, "auto", device))
        memory = need.device or need.host
        reporter().event("model", name=name, cached=model.cached is not None, memory_bytes=memory, **asdict(model))
        cached = "embedded" if not model.hub_id else "yes" if model.cached else "no"
        size = f"about {model.size_bytes / 1e9:.1f} GB" if model.hub_id else size_text(model.size_bytes)
        rows.append((name, cached, size, f"{memory / 2**30:.1f} GiB", f"{model.licence} ({model.purpose})"))
    if reporter().mode != "json":
        answer("\n".join(f"{row[0]:<16}{row[1]:<12}{row[2]:>12}{row[3]:>12}  {row[4]}" for row in rows))
        say("downloaded on first use: st4rtrack run VIDEO --model NAME; to download now: st4rtrack models NAME")


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
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.model.checkpoint import convert_checkpoint
    from st4rtrack.types import UserError

    if output.suffix == ".onnx":
        raise UserError(f"{output}: ONNX export was removed; pass an OUTPUT that ends in .safetensors, or a folder")
    for path in convert_checkpoint(source, output, overwrite=overwrite):
        wrote(path)
    say(f"use it with: st4rtrack run VIDEO --model {output}")
