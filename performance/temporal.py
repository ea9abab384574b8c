"""Does attention over time help the embedded network, for the same cost of training? The question is answered in docs/decisions.md.

python performance/temporal.py prepare CLIPS                    rendered clips with truth and hints, once
python performance/temporal.py train CLIPS pairwise             five processor minutes from the embedded weights
python performance/temporal.py train CLIPS temporal             the same with attention over time (`temporal_attention.py`)
python performance/temporal.py train CLIPS attention            the same, where only the attention over time learns
python performance/temporal.py before CLIPS                     what the embedded network's errors are made of
python performance/temporal.py compare                          the table and the picture of performance/temporal/

All ways see the same windows in the same order under the same objective and optimiser, on one thread; what counts is processor time, so
the heavier network takes fewer steps. What reads images and hints is frozen, and the encoder's tokens are kept.
"""

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import tyro
from temporal_attention import add_time, decode_window
from temporal_measure import Sequence, figures_of

from st4rtrack.losses.objective import PUBLISHED, objective
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.render.curves import BLUE, Curve, draw_curves
from st4rtrack.render.draw import ACCENT, GREY, PAGE
from st4rtrack.train.average import Average, average_decay
from st4rtrack.train.config import PoolConfig, TrainConfig
from st4rtrack.train.examples import from_pairs
from st4rtrack.train.loop import learning_rate
from st4rtrack.train.pool import make_batch, render_shard
from st4rtrack.types import Pointmap, TwoPointmaps

WAYS = Literal["pairwise", "temporal", "attention"]
RESULTS = Path(__file__).parent / "temporal"
FRAMES = 16
CLIPS = PoolConfig(shard_pairs=2 * FRAMES, clip_frames=FRAMES, pairs_per_anchor=FRAMES, shares=(1.0, 0.0, 0.0), compile=False)
"""A shard is one clip, followed as a video forwards and backwards, every frame a pair with its anchor."""
LEARNT_SEEDS = range(7_000_000, 7_000_016)
HELD_OUT_SEEDS = range(7_500_000, 7_500_006)
TITLES = {
    "tracking_m": "tracking, m",
    "tracking_moving_m": "tracking of what moves, m",
    "reconstruction_m": "reconstruction, m",
    "jitter_mm": "jitter of what stands still, mm",
}
COLOURS = {"pairwise": BLUE, "temporal": ACCENT, "attention": GREY}
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "temporal.png"
HEIGHT, WIDTH = 192, 256
WINDOW = 8
SCHEDULE = TrainConfig(steps=1000, warmup_steps=30, learning_rate=1e-4, loss=PUBLISHED["tiny"])
"""Steps are thousandths of the processor time that is to be spent."""
NEW_RATE = 5.0
"""What is new learns so many times faster than what was trained before."""
FROZEN = ("encoder.", "decoder.hint_embed.", "tracking_head.pixels.", "reconstruction_head.pixels.")
AVERAGE = 0.95
MEASURED_AFTER = (0.1, 0.3, 0.6, 1.0)
"""Shares of the cost."""


def prepare(clips: tyro.conf.Positional[Path]) -> None:
    """Renders and follows the clips into a folder."""
    clips.mkdir(parents=True, exist_ok=True)
    for name, seeds in (("learnt", LEARNT_SEEDS), ("held_out", HELD_OUT_SEEDS)):
        for seed in seeds:
            path = clips / f"{name}_{seed}.npy"
            if not path.exists():
                np.save(path, render_shard(CLIPS, seed, HEIGHT, WIDTH))


def read_sequences(clips: Path, name: str) -> list[np.ndarray]:
    """Records [FRAMES] of each clip and direction, the anchor with itself first; by memory map. A clip of mostly sky has none."""
    shards = [np.load(path, mmap_mode="c") for path in sorted(clips.glob(f"{name}_*.npy"))]
    return [shard[start : start + FRAMES] for shard in shards for start in range(0, len(shard), FRAMES)]


@dataclass
class Learner:
    """A network in training, and what its training has cost."""

    model: St4RTrack
    optimizer: torch.optim.Optimizer
    average: Average
    steps: int = 0
    processor_s: float = 0.0


def make_learner(way: str) -> Learner:
    """The embedded network with what is to learn: one of `WAYS`; what reads images and hints is frozen."""
    torch.manual_seed(0)
    model = load_model(device="cpu", dtype="float32")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(way != "attention" and not name.startswith(FROZEN))
    known = [p for p in model.parameters() if p.requires_grad]
    new = [] if way == "pairwise" else add_time(model)
    groups = [{"params": part, "factor": factor} for part, factor in ((known, 1.0), (new, NEW_RATE)) if part]
    optimizer = torch.optim.AdamW(groups, lr=SCHEDULE.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return Learner(model, optimizer, Average(model))


def train(clips: tyro.conf.Positional[Path], way: tyro.conf.Positional[WAYS], minutes: float = 5.0) -> None:
    """Trains one way for so many processor minutes, measures on the way, and writes performance/temporal/WAY.json."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    learner, rng, budget_s = make_learner(way), np.random.default_rng(0), 60 * minutes
    learnt, held_out = read_sequences(clips, "learnt"), read_sequences(clips, "held_out")[::2]  # forwards
    tokens = cache(lambda number, mirror: encode(learner.model, learnt[number], mirror=mirror))
    rows = [measured(learner, held_out)]
    print(way, rows[-1]["mean"], flush=True)
    for share in MEASURED_AFTER:
        while learner.processor_s < share * budget_s:
            start = time.process_time()
            number, first, mirror = rng.integers(len(learnt)), rng.integers(FRAMES - WINDOW + 1), bool(rng.random() < 0.5)
            window = slice(first, first + WINDOW)
            step(learner, learnt[number][window], tokens(number, mirror), window, mirror, learner.processor_s / budget_s)
            learner.processor_s += time.process_time() - start
        with learner.average.in_place():
            rows.append(measured(learner, held_out))
        print(way, learner.steps, rows[-1]["mean"], flush=True)
        write(way, {"minutes": minutes, "rows": rows})
    with learner.average.in_place():
        other = {str(window): measured(learner, held_out, window=window)["mean"] for window in (1, FRAMES) if way != "pairwise"}
    write(way, {"minutes": minutes, "rows": rows, "windows": other})


def before(clips: tyro.conf.Positional[Path]) -> None:
    """Measures the embedded network on the held-out clips in both directions; performance/temporal/embedded.json."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    write("embedded", measured(make_learner("pairwise"), read_sequences(clips, "held_out")))


def encode(model: St4RTrack, records: np.ndarray, *, mirror: bool = False) -> Tokens:
    """Tokens of all frames of a sequence; the first is the anchor."""
    with torch.no_grad():
        return model.encode(make_batch(records, mirror=mirror).frame_images)


def step(learner: Learner, records: np.ndarray, tokens: Tokens, window: slice, mirror: bool, progress: float) -> None:
    """One optimiser step on one window; `progress` is the share of the cost that is spent."""
    learner.model.train()
    batch = make_batch(records, mirror=mirror)
    anchor, frames = (Tokens(tokens.features[part], tokens.grid) for part in (slice(1), window))
    maps, own = decode_window(learner.model, anchor, frames, batch.hints)
    prediction = TwoPointmaps(_half(maps.tracking), _half(maps.reconstruction))
    parts = objective(prediction, from_pairs(batch).supervision, SCHEDULE.loss, predicted_anchor=_half(own, len(batch.unit)))
    learner.optimizer.zero_grad(set_to_none=True)
    parts.total.backward()
    torch.nn.utils.clip_grad_norm_(learner.model.parameters(), SCHEDULE.clip_norm)
    for group in learner.optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(int(progress * SCHEDULE.steps), SCHEDULE)
    learner.optimizer.step()
    learner.average.update(average_decay(learner.steps, AVERAGE))
    learner.steps += 1


def _half(maps: Pointmap, batch: int = -1) -> Pointmap:
    """At the pixels that have truth."""
    assert maps.confidence is not None
    points, confidence = maps.points_world[:, ::2, ::2], maps.confidence[:, ::2, ::2]
    return Pointmap(points.expand(batch, -1, -1, -1), confidence.expand(batch, -1, -1))


@torch.no_grad()
def measured(learner: Learner, held_out: list[np.ndarray], *, window: int = WINDOW) -> dict:
    """Figures on each held-out sequence, and their means."""
    learner.model.eval()
    rows = [figures_of(predict(learner.model, records, window)) for records in held_out]
    return {"steps": learner.steps, "processor_s": round(learner.processor_s, 1), "mean": mean_of(rows), "sequences": rows}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over sequences; one without motion has no error of what moves."""
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def predict(model: St4RTrack, records: np.ndarray, window: int) -> Sequence:
    """Both branches over a whole sequence, window after window."""
    batch, tokens, found, own = make_batch(records), encode(model, records), [], None
    for first in range(0, FRAMES, window):
        part = slice(first, first + window)
        hints = type(batch.hints)(**{name: value[part] for name, value in vars(batch.hints).items()})
        anchor, frames = (Tokens(tokens.features[each], tokens.grid) for each in (slice(1), part))
        maps, own = decode_window(model, anchor, frames, hints, own)
        found.append((_half(maps.tracking).points_world.numpy(), _half(maps.reconstruction).points_world.numpy()))
    tracking, reconstruction = (np.concatenate(maps) for maps in zip(*found, strict=True))
    return Sequence(tracking, reconstruction, batch.truth, batch.moving.numpy())


def write(way: str, result: dict) -> None:
    """Written after every measurement, so that a run that is stopped has told what it found."""
    RESULTS.mkdir(exist_ok=True)
    rounded = json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.5g}"))
    (RESULTS / f"{way}.json").write_text(json.dumps(rounded, indent=1) + "\n")


def compare() -> None:
    """Prints the tables of what is in performance/temporal/, and draws the curves of training into docs/images/."""
    results = {way: json.loads((RESULTS / f"{way}.json").read_text()) for way in ("embedded", *COLOURS)}
    print("embedded network, both directions:", results.pop("embedded")["mean"])
    for way, result in results.items():
        print(f"{way}: {result['rows'][-1]['steps']} steps in {result['rows'][-1]['processor_s']:.0f} processor seconds")
        for name in result["rows"][0]["mean"]:
            first, last = (np.array([row[name] for row in result["rows"][k]["sequences"]]) for k in (0, -1))
            change = 100 * (last / first - 1)
            print(
                f"  {name:28} {np.nanmean(first):8.4f} -> {np.nanmean(last):8.4f}, change {np.nanmedian(change):+6.2f} % (median),"
                f" less in {np.nansum(change < 0):.0f} of {np.isfinite(change).sum()}"
            )
        for window, mean in result.get("windows", {}).items():
            print(f"  windows of {window}: {mean}")
    panels = [panel(results, name, title) for name, title in TITLES.items()]
    cv2.imwrite(str(PICTURE), np.vstack([np.hstack(panels[k : k + 2]) for k in range(0, len(panels), 2)])[..., ::-1])


def panel(results: dict[str, dict], name: str, title: str) -> np.ndarray:
    """One figure of both ways over what training has cost."""
    curves = []
    for way, result in results.items():
        spent, value = zip(*((row["processor_s"], row["mean"][name]) for row in result["rows"]), strict=True)
        curves.append(Curve(way, np.array(spent), np.array(value), COLOURS[way], marks=True))
    drawn = draw_curves(title, curves, (260, 460), across="processor seconds")
    return cv2.copyMakeBorder(drawn, 12, 12, 16, 16, cv2.BORDER_CONSTANT, value=PAGE)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"prepare": prepare, "before": before, "train": train, "compare": compare})
