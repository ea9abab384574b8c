"""St4RTrack: an anchor image and a frame in, two pointmaps out, both in the anchor's camera frame, both at the frame's time.

The paper's Fig. 2 as code: shared encoder, twin decoders, two heads (paper section 3.1). Released weights are trained for the
formulas of `released_points`; a network with hints corrects the base geometry of its hints instead (`points_on_base`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.decoder import TwinDecoder
from st4rtrack.model.encoder import Tokens, make_encoder
from st4rtrack.model.heads import ConvHead, DptHead
from st4rtrack.model.hints import Hints, estimate_hints, sample_by_flow, still_hints
from st4rtrack.model.monocular import MonocularHead
from st4rtrack.types import MonocularDepth, Pointmap, TwoPointmaps

MIN_DEPTH = 0.02
"""Minimum depth of the base geometry, in units of its median depth."""

HINT_OUTPUT_CHANNELS = 10
"""Raw channels of a network with hints, see `points_on_rays` and `points_on_base`; channel 3 is the confidence. Channels 0, 1, 7 and 8
were offsets of the pixel rays; they are not used, so that every point projects to its own pixel."""


class St4RTrack(nn.Module):
    """The network. Runs in the type of its weights up to the heads' last layer; points and confidence are float32.

    Attributes:
        config: sizes and options.
        name: what the weights are called, for records.
        weights_hash: hash of the file they came from, "" when they came from none.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.name = "untrained"
        self.weights_hash = ""
        self.encoder = make_encoder(config)
        self.decoder = TwinDecoder(config)
        head = DptHead if config.head == "dpt" else ConvHead
        channels = HINT_OUTPUT_CHANNELS if config.hints else 4
        self.tracking_head = head(config, channels)
        self.reconstruction_head = head(config, channels)
        self.monocular_head = MonocularHead(config) if config.monocular else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.decoder.embed.weight.dtype

    def forward(self, anchor_images: Tensor, frame_images: Tensor) -> TwoPointmaps:
        """Pointmaps of image pairs.

        Args:
            anchor_images, frame_images: [batch, 3, height, width] in [-1, 1], sides multiples of the patch size, any orientation.
        Returns:
            `TwoPointmaps` of float32 tensors, `points_world` [batch, height, width, 3], `confidence` [batch, height, width].
        Raises:
            ValueError: shapes differ, or a side is not a multiple of the patch size.
        """
        if anchor_images.shape != frame_images.shape:
            raise ValueError(f"image batches differ in shape: {list(anchor_images.shape)} and {list(frame_images.shape)}")
        hints = self.hints(anchor_images, frame_images)
        return self.decode(self.encode(anchor_images), self.encode(frame_images), hints)

    def encode(self, images: Tensor) -> Tokens:
        """Tokens of images [batch, 3, height, width] in [-1, 1]; one encoding serves every pair that the image is in."""
        patch = self.config.size_multiple
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % patch or images.shape[3] % patch or not images.numel():
            raise ValueError(
                f"images must be [batch, 3, height, width] with sides multiples of {patch}, got {list(images.shape)}"
            )
        return self.encoder(images)

    def monocular(self, tokens: Tokens) -> MonocularDepth:
        """Depth, focal length and expected error of encoded images.

        Raises:
            ValueError: the network has no monocular head.
        """
        if self.monocular_head is None:
            raise ValueError("this network has no monocular head: its configuration must say monocular")
        return self.monocular_head(tokens.levels)

    def hints(self, anchor_images: Tensor, frame_images: Tensor) -> Hints | None:
        """What a network with hints needs beside the tokens, from images [batch, 3, height, width]; `None` for one without."""
        if not self.config.hints:
            return None
        return estimate_hints(anchor_images.expand_as(frame_images), frame_images)

    def decode(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None = None) -> TwoPointmaps:
        """Pointmaps from tokens.

        Args:
            anchor_tokens: of one image (for all frames), or one per frame.
            frame_tokens: of [batch] images.
            hints: `model.hints(...)` of the same images; required by a network with hints.
        Returns:
            As `forward`.
        Raises:
            ValueError: hints are missing, or the grids differ.
        """
        self._require_pair(anchor_tokens, frame_tokens, hints)
        if hints is not None:
            return self.decode_with_anchor(anchor_tokens, frame_tokens, hints)[0]
        raw_tracking, raw_reconstruction = self._raw(anchor_tokens, frame_tokens, None)
        return TwoPointmaps(
            Pointmap(released_points(raw_tracking), confidence(raw_tracking[:, 3])),
            Pointmap(released_points(raw_reconstruction), confidence(raw_reconstruction[:, 3])),
        )

    def decode_reconstruction(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None = None) -> Pointmap:
        """The reconstruction of `decode` alone: the head of the tracking branch is not computed."""
        self._require_pair(anchor_tokens, frame_tokens, hints)
        frame_maps = None if hints is None else hints.frame_maps
        _, features = self.decoder(anchor_tokens, frame_tokens, None if hints is None else hints.anchor_maps, frame_maps)
        raw = self.reconstruction_head(features, anchor_tokens.grid, frame_maps, frame_tokens.levels)
        return Pointmap(released_points(raw) if hints is None else reconstruction_on_rays(raw, hints)[1], confidence(raw[:, 3]))

    def decode_with_anchor(
        self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints, anchor_points: Pointmap | None = None
    ) -> tuple[TwoPointmaps, Pointmap]:
        """Pointmaps of a network with hints, and the anchor's content at its own time, from which its tracking branch starts.

        Args:
            anchor_points: that content, [1 or batch, height, width, 3], where it is known from an earlier call: all frames of
                an anchor share it. Without, it is decoded from the anchor with itself.
        """
        if anchor_points is None:
            still = still_hints(hints)
            frames = anchor_tokens.expand(still.frame_maps.shape[0])
            features, _ = self.decoder(anchor_tokens, frames, still.anchor_maps, still.frame_maps)
            raw_still = self.tracking_head(features, anchor_tokens.grid, still.anchor_maps, anchor_tokens.levels)
            anchor_points = Pointmap(points_on_rays(raw_still, still.anchor_log_depth, still.rays), confidence(raw_still[:, 3]))
        raw_tracking, raw_reconstruction = self._raw(anchor_tokens, frame_tokens, hints)
        with torch.autocast(
            raw_tracking.device.type, enabled=False
        ):  # geometry stays in float32 while the network learns in bfloat16
            tracking, reconstruction = points_on_base(raw_tracking, raw_reconstruction, anchor_points.points_world, hints)
        maps = TwoPointmaps(
            Pointmap(tracking, confidence(raw_tracking[:, 3])), Pointmap(reconstruction, confidence(raw_reconstruction[:, 3]))
        )
        return maps, anchor_points

    def _require_pair(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None) -> None:
        if anchor_tokens.grid != frame_tokens.grid:
            raise ValueError(f"anchor and frame differ in size: {anchor_tokens.grid} and {frame_tokens.grid} patches")
        if self.config.hints and hints is None:
            raise ValueError("this network was trained with hints: pass model.hints(anchor_images, frame_images)")

    def _raw(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None) -> tuple[Tensor, Tensor]:
        """Raw channels [batch, channels, height, width] of both heads."""
        anchor_maps, frame_maps = (None, None) if hints is None else (hints.anchor_maps, hints.frame_maps)
        tracking, reconstruction = self.decoder(anchor_tokens, frame_tokens, anchor_maps, frame_maps)
        return (
            self.tracking_head(tracking, anchor_tokens.grid, anchor_maps, anchor_tokens.levels),
            self.reconstruction_head(reconstruction, anchor_tokens.grid, frame_maps, frame_tokens.levels),
        )


def released_points(raw: Tensor) -> Tensor:
    """Points [batch, height, width, 3] from raw channels [batch, 4, height, width] by the formulas of the release.

    The direction is that of the raw vector, the distance the exponential of its norm, minus one.
    """
    xyz = raw[:, :3].permute(0, 2, 3, 1)
    distance = xyz.norm(dim=-1, keepdim=True)
    return xyz / distance.clamp(min=1e-8) * torch.expm1(distance)


def confidence(raw: Tensor) -> Tensor:
    """Confidence [batch, height, width] > 1 from its raw channel."""
    return 1 + raw.exp()


def points_on_base(
    raw_tracking: Tensor, raw_reconstruction: Tensor, anchor_points: Tensor, hints: Hints
) -> tuple[Tensor, Tensor]:
    """Points [batch, height, width, 3] of both branches as corrections of the base geometry.

    Reconstruction: see `reconstruction_on_rays`.
    Tracking: static content stays at `anchor_points`, so that all frames share one depth of the anchor. Where the flow is trusted, a point
    lies on the ray of frame j to which the flow leads: either as close to its old position as the ray allows (no motion along the ray), or
    at the depth of frame j there. Raw channels: flow gate (5), gate of the depth of frame j (6), log depth along the ray (9).
    """
    in_frame, reconstruction = reconstruction_on_rays(raw_reconstruction, hints)
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, None, None, :3, 3]
    followed = sample_by_flow(in_frame.permute(0, 3, 1, 2), hints.forward_flow).permute(0, 2, 3, 1)
    depth = followed[..., 2:].clamp(min=MIN_DEPTH)
    ray = torch.einsum("bij,bhwj->bhwi", rotation, F.pad(followed[..., :2] / depth, (0, 1), value=1.0))
    nearest = ((anchor_points - translation) * ray).sum(-1, keepdim=True) / ray.square().sum(-1, keepdim=True)
    nearest = nearest.clamp(min=MIN_DEPTH)
    in_depth, further = torch.sigmoid(raw_tracking[:, 6])[..., None], raw_tracking[:, 9, ..., None].clamp(-2, 2)
    on_ray = translation + ray * nearest * (depth / nearest) ** in_depth * further.exp()
    # the forward-backward check is where the gate starts, not where it ends: long chains of flow rarely return exactly
    gate = torch.sigmoid(raw_tracking[:, 5] + 4 * hints.consistency - 2)[..., None]
    return anchor_points + gate * (on_ray - anchor_points), reconstruction


def reconstruction_on_rays(raw: Tensor, hints: Hints) -> tuple[Tensor, Tensor]:
    """Points [batch, height, width, 3] of a frame in its own camera and in the anchor's; each lies on the ray of its pixel."""
    in_frame = points_on_rays(raw, hints.frame_log_depth, hints.rays)
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, None, None, :3, 3]
    return in_frame, torch.einsum("bij,bhwj->bhwi", rotation, in_frame) + translation


def points_on_rays(raw: Tensor, known_log_depth: Tensor, rays: Tensor) -> Tensor:
    """Points [batch, height, width, 3] in the frame of the camera of `rays`.

    Raw channels: log depth (2), gate of the known depth (4).
    """
    log_depth = raw[:, 2] + torch.sigmoid(raw[:, 4]) * known_log_depth
    return rays * log_depth.clamp(-6, 6).exp()[..., None]
