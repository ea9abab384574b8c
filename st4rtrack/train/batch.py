"""What a training step consumes."""

from dataclasses import dataclass

from torch import Tensor

from st4rtrack.model.hints import Hints
from st4rtrack.types import TwoPointmaps


@dataclass
class Batch:
    """Ordered pairs of one size, with truth at every second pixel.

    Attributes:
        anchor_images, frame_images: [batch, 3, height, width] in [-1, 1].
        hints: of the pairs.
        truth: metres, [batch, height / 2, width / 2, 3], with `valid` masks.
        moving: [batch, height / 2, width / 2] bool, of the anchor's pixels.
        unit: [batch] mean distance of the anchor's own points, metres: the length of one network unit.
        own_points: [batch, height / 2, width / 2, 3] the anchor's points at the anchor's time, metres.
    """

    anchor_images: Tensor
    frame_images: Tensor
    hints: Hints
    truth: TwoPointmaps
    moving: Tensor
    unit: Tensor
    own_points: Tensor
