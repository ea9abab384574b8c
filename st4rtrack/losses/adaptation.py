"""The sum that a video without labels is adapted by (paper section 3.3, Eq. 11): named weights, and the terms they weigh.

`reprojection.py` has the terms of the paper and of the released scripts, `relative.py` those of a network with a skeleton.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from st4rtrack.losses.relative import (
    Held,
    KnownDepth,
    held_loss,
    relative_agreement_loss,
    relative_depth_loss,
    relative_trajectory_loss,
)
from st4rtrack.losses.reprojection import (
    agreement_loss,
    depth_loss,
    released_agreement_loss,
    released_depth_loss,
    released_trajectory_loss,
    trajectory_loss,
)
from st4rtrack.types import UserError

Form = Literal["paper", "released", "relative"]


@dataclass(frozen=True)
class AdaptationLoss:
    """The sum of Eq. 11: weights of the terms, and how they are computed.

    Attributes:
        trajectory, depth, alignment: weights; a term of weight 0 is measured and not learnt from.
        held: weight of holding what no teacher measures: the reconstruction at what it was, and the depth of tracks; 0: both are free.
        form: "paper"; "released": with the scales, means and exponents of the released scripts; "relative": `losses/relative.py`.
    Raises:
        UserError: a weight is negative or not finite, or there is no such form.
    """

    trajectory: float = 1.0
    depth: float = 10.0
    alignment: float = 5.0
    held: float = 0.0
    form: Form = "paper"

    def __post_init__(self) -> None:
        for name in ("trajectory", "depth", "alignment", "held"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"the weight of {name} is a finite number that is not negative, not {getattr(self, name)}")
        if self.form not in get_args(Form):
            raise UserError(f"the form of the loss is one of {', '.join(get_args(Form))}, not {self.form}")


NAMED: dict[str, AdaptationLoss] = {
    "paper": AdaptationLoss(),
    "released": AdaptationLoss(trajectory=0.5, form="released"),
    "relative": AdaptationLoss(trajectory=1.0, depth=1.0, alignment=0.2, held=3.0, form="relative"),
}
"""Losses with a name. "paper": Eq. 5-11 with the weights of its appendix C.1; "released": what the released script for adaptation does;
"relative": for a network whose geometry starts from a skeleton, where square pixels (a thousand at the start) drown the other terms and
the squares of Eq. 9, which far pixels rule, bend what is near; it agrees little and holds much, because no built-in teacher knows the depth
of what moves. Chosen on scenes of the procedural world."""


@dataclass
class AdaptationParts:
    """A loss and what it is made of.

    Attributes:
        total: differentiable.
        parts: "trajectory", "alignment", and "depth" where there is a teacher of it, "held" where something is: before they are
            weighted, detached.
    """

    total: Tensor
    parts: dict[str, Tensor]


class _Terms(NamedTuple):
    trajectory: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    depth: Callable[[KnownDepth, KnownDepth | None], Tensor]
    alignment: Callable[[Tensor, Tensor, Tensor], Tensor]


TERMS: dict[Form, _Terms] = {
    "paper": _Terms(trajectory_loss, lambda pixels, _: depth_loss(pixels.depth, pixels.teacher, pixels.valid), agreement_loss),
    "released": _Terms(
        released_trajectory_loss,
        lambda pixels, _: released_depth_loss(pixels.depth, pixels.teacher, pixels.valid),
        released_agreement_loss,
    ),
    "relative": _Terms(relative_trajectory_loss, relative_depth_loss, relative_agreement_loss),
}


def adaptation_loss(
    loss: AdaptationLoss,
    *,
    trajectory: tuple[Tensor, Tensor, Tensor, Tensor],
    alignment: tuple[Tensor, Tensor, Tensor],
    pixels: KnownDepth | None = None,
    tracks: KnownDepth | None = None,
    held: Held | None = None,
) -> AdaptationParts:
    """The weighted sum of the terms (paper Eq. 11) over frames that have a camera.

    Args:
        loss: weights and form.
        trajectory: projected_px, tracks_px, visible, centre_px of `trajectory_loss`.
        alignment: tracking_points, reconstruction_points, both_visible of `agreement_loss`.
        pixels: depth of the reconstruction, see `depth_loss`; `None` where nobody knows depth, then there is no such term.
        tracks: depth of tracked points where the teacher sees them, which "relative" compares too.
        held: what nobody measures, see `held_loss`.
    Returns:
        `AdaptationParts`.
    """
    terms = TERMS[loss.form]
    found = {
        "trajectory": (loss.trajectory, terms.trajectory(*trajectory)),
        "alignment": (loss.alignment, terms.alignment(*alignment)),
    }
    if pixels is not None:
        found["depth"] = (loss.depth, terms.depth(pixels, tracks))
    if held is not None:
        found["held"] = (loss.held, held_loss(held))
    # a term of weight 0 is left out rather than multiplied, so that one that is not finite cannot spoil the rest
    total = sum((weight * term for weight, term in found.values() if weight), start=trajectory[0].new_zeros(()))
    return AdaptationParts(total, {name: term.detach() for name, (_, term) in found.items()})
