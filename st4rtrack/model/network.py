"""St4RTrack: an anchor image and a frame in, two pointmaps out, both in the anchor's camera frame, both at the frame's time.

The paper's Fig. 2 as code: shared encoder, twin decoders, two heads (paper section 3.1). Released weights are trained for the
formulas of `released_points`; a network with hints refines the skeleton of two-view geometry instead (`skeleton_points`).
"""

import torch
from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.decoder import TwinDecoder
from st4rtrack.model.encoder import Encoder, Tokens
from st4rtrack.model.heads import ConvHead, DptHead
from st4rtrack.model.hints import Hints, estimate_hints, nominal_rays, sample_by_flow
from st4rtrack.types import Pointmap, TwoPointmaps


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
        self.encoder = Encoder(config)
        self.decoder = TwinDecoder(config)
        head = DptHead if config.head == "dpt" else ConvHead
        channels = 6 if config.hints else 4
        self.tracking_head = head(config, channels)
        self.reconstruction_head = head(config, channels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.patch_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.encoder.patch_embed.weight.dtype

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
        patch = self.config.patch_size
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % patch or images.shape[3] % patch or not images.numel():
            raise ValueError(
                f"images must be [batch, 3, height, width] with sides multiples of {patch}, got {list(images.shape)}"
            )
        return self.encoder(images)

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
        if anchor_tokens.grid != frame_tokens.grid:
            raise ValueError(f"anchor and frame differ in size: {anchor_tokens.grid} and {frame_tokens.grid} patches")
        if self.config.hints and hints is None:
            raise ValueError("this network was trained with hints: pass model.hints(anchor_images, frame_images)")
        anchor_maps, frame_maps = (None, None) if hints is None else (hints.anchor_maps, hints.frame_maps)
        tracking_features, reconstruction_features = self.decoder(anchor_tokens, frame_tokens, anchor_maps, frame_maps)
        raw_tracking = self.tracking_head(tracking_features, anchor_tokens.grid, anchor_maps)
        raw_reconstruction = self.reconstruction_head(reconstruction_features, anchor_tokens.grid, frame_maps)
        if hints is None:
            tracking, reconstruction = released_points(raw_tracking), released_points(raw_reconstruction)
        else:
            tracking, reconstruction = skeleton_points(raw_tracking, raw_reconstruction, hints)
        return TwoPointmaps(
            Pointmap(tracking, confidence(raw_tracking[:, 3])), Pointmap(reconstruction, confidence(raw_reconstruction[:, 3]))
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


def skeleton_points(raw_tracking: Tensor, raw_reconstruction: Tensor, hints: Hints) -> tuple[Tensor, Tensor]:
    """Points [batch, height, width, 3] of both branches as corrections of two-view geometry.

    Raw channels: turn of the ray (2), log depth (1), confidence (1), trust in the triangulated depth (1), trust in the flow (1).
    A pixel's point lies on its (corrected) ray at its depth, in its own camera; the relative camera brings the frame's into the
    anchor's frame. Where the flow is consistent, the anchor pixel's content at time j is what frame j shows where the flow leads:
    X_j^i(p) = X_j^j(p + flow(p)), which is exact for what is seen, moving or not.
    """
    own = _points_on_rays(raw_tracking, hints.anchor_log_depth)
    in_frame = _points_on_rays(raw_reconstruction, hints.frame_log_depth)
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, :3, 3]
    reconstruction = torch.einsum("bij,bhwj->bhwi", rotation, in_frame) + translation[:, None, None]
    followed = sample_by_flow(reconstruction.permute(0, 3, 1, 2), hints.forward_flow).permute(0, 2, 3, 1)
    trust = (torch.sigmoid(raw_tracking[:, 5]) * hints.consistency)[..., None]
    return own + trust * (followed - own), reconstruction


def _points_on_rays(raw: Tensor, known_log_depth: Tensor) -> Tensor:
    rays = nominal_rays(raw.shape[2], raw.shape[3], raw.device)
    turned = torch.cat([rays[..., :2] + raw[:, :2].permute(0, 2, 3, 1), rays[..., 2:].expand(raw.shape[0], -1, -1, -1)], dim=-1)
    log_depth = raw[:, 2] + torch.sigmoid(raw[:, 4]) * known_log_depth
    return turned * log_depth.clamp(-6, 6).exp()[..., None]
