"""`st4rtrack bench build`: WorldTrack from the raw data sets."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def build(
    dataset: tyro.conf.Positional[Literal["adt", "pstudio", "po", "dr", "tum"]],
    raw: tyro.conf.Positional[Path],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    count: int = 50,
    seed: int = 0,
    listed: Annotated[Path | None, tyro.conf.arg(name="list")] = None,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Build one set of WorldTrack from its raw data set: .npz sequences and the list of what was chosen.

    Args:
        dataset: adt, pstudio (TAPVid-3D with images), po (Point Odyssey), dr (Dynamic Replica), tum (TUM-Dynamics).
        raw: Folder into which the data set was unpacked (docs/build-worldtrack.md says which files are needed).
        output: Folder of WorldTrack; the set goes to adt_mini, pstudio_mini, po_mini, ds_mini or tum in it.
        count: Sequences to draw, of all that pass the filters.
        seed: Of the draw.
        listed: Text file with the sequences to build instead of drawing, such as the sequences.txt of another build.
        overwrite: Replace another build, and build again what is there.
    """
    from st4rtrack.bench.build import LIST, build_worldtrack, read_list
    from st4rtrack.bench.recipes import RECIPES
    from st4rtrack.cli.options import positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say
    from st4rtrack.types import UserError

    log_to_stderr()
    if seed < 0:
        raise UserError(f"--seed must be 0 or more, got {seed}")
    with Progress("sequence") as progress:
        paths = build_worldtrack(
            RECIPES[dataset],
            raw,
            output,
            count=positive_int(count, "--count"),
            seed=seed,
            chosen=None if listed is None else read_list(listed),
            overwrite=overwrite,
            progress=progress,
        )
    say(f"{paths[0].parent} holds {len(paths)} sequences; {LIST} says how they were chosen")
    say(f"next: st4rtrack bench predict --data {output} -o predictions")
