"""Configuration of the network, stored in the checkpoint."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from st4rtrack.types import UserError

LARGEST = 1 << 16
"""Maximum of any size of a network or its images; a larger one means a damaged or malicious configuration."""
LAST_WITH_DECODER_HINTS = "st4rtrack 0.1.0 at commit d94fd98"
"""Last version whose decoders took hints."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a network, needed together with its weights.

    Attributes:
        patch_size: pixels per token side; image sides are multiples of it.
        image_size: long side, in pixels, used in training; the default of `--size`. No parameter depends on it.
        encoder_width, encoder_depth, encoder_heads: size of the shared ViT encoder.
        decoder_width, decoder_depth, decoder_heads: size of each of the two cross-attending decoders.
        rope_base: base of the rotary frequencies.
        head: "dpt" as released (multi-scale convolutions, sharp, 40 M parameters), "conv" (a few convolutions at a quarter of
            the resolution, cheap enough for a small network on a CPU), or "monocular": no decoders, the pointmaps are classical
            two-view geometry with monocular depth (`model/monocular_pairs.py`); the decoder sizes have no effect then.
        encoder: "vit" as released, or "efficientnet": a convolutional backbone with pretrained weights and a feature pyramid,
            whose tokens have stride 16, for the head "monocular"; `encoder_depth` and `encoder_heads` have no effect then.
        pyramid_width: channels of the feature pyramid.
        monocular: whether the network has a monocular depth head (`model/monocular.py`) on the pyramid.
        matching: whether the network has a matching head (`model/matching.py`) on the convolutional backbone.
        hints: whether the pointmaps use classical two-view geometry (`model/hints.py`): true for the head "monocular" alone.
    """

    patch_size: int = 16
    image_size: int = 512
    encoder_width: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 16
    decoder_width: int = 768
    decoder_depth: int = 12
    decoder_heads: int = 12
    rope_base: float = 100.0
    head: Literal["dpt", "conv", "monocular"] = "dpt"
    hints: bool = False
    encoder: Literal["vit", "efficientnet"] = "vit"
    pyramid_width: int = 64
    monocular: bool = False
    matching: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is int and not 1 <= value <= LARGEST:
                raise UserError(f"model configuration: {name} must be 1 to {LARGEST}, got {str(value)[:20]}")
        if not (math.isfinite(self.rope_base) and self.rope_base > 0):
            raise UserError(f"model configuration: rope_base must be above 0, got {self.rope_base}")
        for width, heads, part in (
            (self.encoder_width, self.encoder_heads, "encoder"),
            (self.decoder_width, self.decoder_heads, "decoder"),
        ):
            used = part == "decoder" or self.encoder == "vit"
            if used and (width % heads or (width // heads) % 4):
                raise UserError(f"model configuration: {part} width must be {heads} heads times a multiple of 4, got {width}")
        if self.head not in ("dpt", "conv", "monocular"):
            raise UserError(f"model configuration: head must be 'dpt', 'conv' or 'monocular', got {self.head!r}")
        if self.encoder not in ("vit", "efficientnet"):
            raise UserError(f"model configuration: encoder must be 'vit' or 'efficientnet', got {self.encoder!r}")
        if self.encoder == "efficientnet" and self.patch_size != 16:
            raise UserError(f"model configuration: patch_size must be 16 for the efficientnet encoder, got {self.patch_size}")
        if self.monocular and self.encoder != "efficientnet":
            raise UserError("model configuration: a monocular head needs the encoder 'efficientnet'")
        if self.matching and self.encoder != "efficientnet":
            raise UserError("model configuration: a matching head needs the encoder 'efficientnet'")
        if self.hints and self.head != "monocular":
            raise UserError(
                f"model configuration: decoders with hints (head {self.head!r}, hints=true) are no longer supported; run this "
                f"checkpoint with {LAST_WITH_DECODER_HINTS}, or use the embedded model (--model tiny)"
            )
        if self.head == "monocular" and not (self.monocular and self.hints):
            raise UserError("model configuration: the head 'monocular' needs monocular=true and hints=true")
        if self.encoder == "efficientnet" and self.head != "monocular":
            raise UserError(f"model configuration: the encoder 'efficientnet' needs the head 'monocular', got {self.head!r}")
        if self.head == "conv" and self.patch_size % 4:
            raise UserError(f"model configuration: patch_size must be a multiple of 4 for the conv head, got {self.patch_size}")
        if self.head == "dpt" and self.patch_size != 16:
            raise UserError(
                f"model configuration: patch_size must be 16 for the dpt head, which upsamples 16 times, got {self.patch_size}"
            )

    @property
    def size_multiple(self) -> int:
        """Sides of the network images must be multiples of this number of pixels."""
        return self.patch_size

    @property
    def head_layers(self) -> tuple[int, ...]:
        """Decoder layers that the head reads, in order; 0 is the encoder output."""
        depth = self.decoder_depth
        return (depth,) if self.head == "conv" else (0, depth // 2, depth * 3 // 4, depth)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Create a configuration from the values of `to_dict`.

        Raises:
            UserError: an option is unknown to this version, or a value has the wrong type.
        """
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UserError(f"model configuration: unknown option {unknown[0]!r}; was the checkpoint made by a newer st4rtrack?")
        for name, value in values.items():
            wanted = type(getattr(LARGE, name))
            if not isinstance(value, (int, float) if wanted is float else wanted) or (
                isinstance(value, bool) and wanted is not bool
            ):
                raise UserError(f"model configuration: {name} must be {wanted.__name__}, got {value!r}")
        return cls(**values)


LARGE = ModelConfig()
"""The released architecture: DUSt3R-512-DPT, 571 M parameters."""

TINY = ModelConfig(
    image_size=256,
    encoder_width=192,
    encoder_depth=4,
    encoder_heads=3,
    decoder_width=192,
    decoder_depth=3,
    decoder_heads=3,
    head="conv",
)
"""Small pair network. 256 pixels with patch size 16 fit 4:3 and 16:9 without cropping, with 192 and 144 tokens."""

MONOCULAR = ModelConfig(
    image_size=256,
    encoder_width=192,
    decoder_width=192,
    decoder_depth=3,
    decoder_heads=3,
    head="monocular",
    hints=True,
    encoder="efficientnet",
    monocular=True,
)
"""Pretrained encoder and monocular depth head, 256 pixels long side; without decoders."""

EMBEDDED = replace(MONOCULAR, matching=True)
"""Embedded model: with a matching head."""
