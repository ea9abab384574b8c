"""Self-supervised adaptation loss (paper section 3.3, Eq. 11): weighted sum of its terms, with named presets.

`reprojection.py` has the terms of the paper and of the released scripts, `relative.py` those for a network with base geometry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from st4rtrack.losses import relative, reprojection
from st4rtrack.losses.relative import KnownDepth, PoseTerm, RetentionTerm
from st4rtrack.types import UserError

Form = Literal["paper", "released", "relative"]


@dataclass(frozen=True)
class AdaptationLoss:
    """Weights of the adaptation loss (paper Eq. 11) and the form of its terms.
    Raises:
        UserError: a weight is negative or not finite, or the form is unknown.
    """

    # trajectory, depth, alignment: weights of the terms; a term of weight 0 is logged but not optimised
    trajectory: float = 1.0
    depth: float = 10.0
    alignment: float = 5.0
    # weight of the retention term, which keeps the base model's reconstruction and track depth where no teacher measures them; 0
    # disables it
    held: float = 0.0
    pose: float = 0.0  # weight of the term that compares the cameras with those of the teacher; 0 in the paper
    # "paper"; "released": with the scales, means and exponents of the released scripts; "relative": `losses/relative.py`
    form: Form = "paper"

    def __post_init__(self) -> None:
        for name in ("trajectory", "depth", "alignment", "held", "pose"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"the weight of {name} must be finite and not negative, got {getattr(self, name)}")
        if self.form not in get_args(Form):
            raise UserError(f"the form of the loss must be one of {', '.join(get_args(Form))}, got {self.form}")


NAMED: dict[str, AdaptationLoss] = {
    "paper": AdaptationLoss(),
    "released": AdaptationLoss(trajectory=0.5, form="released"),
    "relative": AdaptationLoss(trajectory=1.0, depth=1.0, alignment=0.2, held=3.0, pose=1.0, form="relative"),
}
"""Preset losses. "paper": Eq. 5-11 with the weights of its appendix C.1; "released": as the released adaptation script;
"relative": for a network with base geometry, where squared pixel errors (a thousand at the start) outweigh the other terms and
the squares of Eq. 9, dominated by far pixels, distort near geometry; its alignment weight is low and its retention weight high,
because no built-in teacher knows the depth of dynamic objects. Chosen on scenes of the procedural world."""


MONOCULAR = AdaptationLoss(trajectory=0.0, depth=1.0, alignment=0.0, held=3.0, form="relative")
"""Loss of a network without decoders (`adapt/monocular.py`)."""


@dataclass
class AdaptationParts:
    """Adaptation loss and its terms."""

    total: Tensor  # weighted sum, differentiable
    # unweighted terms, detached: "trajectory", "alignment", "depth" if there is a depth teacher, "held" if there is a retention
    # term, "pose" if the teacher has cameras
    parts: dict[str, Tensor]


class _Terms(NamedTuple):
    trajectory: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    depth: Callable[[KnownDepth, KnownDepth | None], Tensor]
    alignment: Callable[[Tensor, Tensor, Tensor], Tensor]


TERMS: dict[Form, _Terms] = {
    "paper": _Terms(
        reprojection.trajectory_loss,
        lambda pixels, _: reprojection.depth_loss(pixels.depth, pixels.teacher, pixels.valid),
        reprojection.agreement_loss,
    ),
    "released": _Terms(
        reprojection.released_trajectory_loss,
        lambda pixels, _: reprojection.released_depth_loss(pixels.depth, pixels.teacher, pixels.valid),
        reprojection.released_agreement_loss,
    ),
    "relative": _Terms(relative.relative_trajectory_loss, relative.relative_depth_loss, relative.relative_agreement_loss),
}


def adaptation_loss(
    loss: AdaptationLoss,
    *,
    trajectory: tuple[Tensor, Tensor, Tensor, Tensor],
    alignment: tuple[Tensor, Tensor, Tensor],
    pixels: KnownDepth | None = None,
    tracks: KnownDepth | None = None,
    held: RetentionTerm | None = None,
    pose: PoseTerm | None = None,
) -> AdaptationParts:
    """Compute the adaptation loss (paper Eq. 11) over the frames with a solved camera.

    Args:
        loss: weights and form.
        trajectory: projected_px, tracks_px, visible, centre_px of `trajectory_loss`.
        alignment: tracking_points, reconstruction_points, both_visible of `agreement_loss`.
        pixels: depth of the reconstruction, see `depth_loss`; `None` without a depth teacher, which omits the term.
        tracks: depth of tracked points where the teacher marks them visible; used by "relative" only.
        held: geometry that no teacher measures, see `retention_loss`.
        pose: cameras of network and teacher, see `pose_loss`.
    """
    terms = TERMS[loss.form]
    found = {
        "trajectory": (loss.trajectory, terms.trajectory(*trajectory)),
        "alignment": (loss.alignment, terms.alignment(*alignment)),
    }
    if pixels is not None:
        found["depth"] = (loss.depth, terms.depth(pixels, tracks))
    if held is not None:
        found["held"] = (loss.held, relative.retention_loss(held))
    if pose is not None:
        found["pose"] = (loss.pose, relative.pose_loss(pose))
    # omit terms of weight 0 instead of multiplying, so that a non-finite one cannot make the total NaN
    total = sum((weight * term for weight, term in found.values() if weight), start=trajectory[0].new_zeros(()))
    return AdaptationParts(total, {name: term.detach() for name, (_, term) in found.items()})
