"""Network as a model of the Hugging Face hub: `from_pretrained`, `save_pretrained`, `push_to_hub`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from huggingface_hub import ModelCard, PyTorchModelHubMixin

from st4rtrack.model.hub import fetch_folder, is_hub_id
from st4rtrack.model.named import FILES, NAMED

if TYPE_CHECKING:
    from st4rtrack.model.config import ModelConfig

CARD = Path(__file__).parent / "weights" / "README.md"
"""Model card of the embedded model in the format of the hub."""
_TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

Network for st4rtrack, an open implementation of St4RTrack (arXiv 2504.13152).

    st4rtrack run VIDEO --model ORG/NAME
"""


class HubModel(
    PyTorchModelHubMixin,
    library_name="st4rtrack",
    pipeline_tag="image-to-3d",
    tags=["3d-point-tracking", "4d-reconstruction", "pointmap", "arxiv:2504.13152"],
    model_card_template=_TEMPLATE,
):
    """Base class of the network. `push_to_hub(id)` uploads what `save_pretrained(folder)` writes; nothing is a pickle."""

    config: "ModelConfig"
    name: str

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, device: str = "cpu", dtype: str = "float32", **options: Any
    ) -> Self:
        """Load a network with trained weights, ready for inference.

        Args:
            pretrained_model_name_or_path: as `source` of `load_model`.
            device, dtype: as for `load_model`.
            options: for a hub id: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.
        Raises:
            UserError: as `load_model`.
        """
        from st4rtrack.model.checkpoint import load_model

        source = str(pretrained_model_name_or_path)
        remote = source not in NAMED and not Path(source).exists() and is_hub_id(source)
        model = load_model(fetch_folder(source, *FILES, **options) if remote else source, device=device, dtype=dtype)
        if remote:
            model.name = source
        return model  # pyright: ignore[reportReturnType]

    def _save_pretrained(self, save_directory: Path) -> None:
        from st4rtrack.model.checkpoint import save_model, write_config

        save_model(self, save_directory / "model.safetensors")  # pyright: ignore[reportArgumentType]
        write_config(self.config, save_directory / "config.json")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Model card: that of the embedded model, or a short one, with the licence if the weights have a name."""
        from st4rtrack.model.checkpoint import is_embedded

        if is_embedded(self):  # pyright: ignore[reportArgumentType]
            return ModelCard(re.sub(r"!?\[([^\]]*)\]\(\.\.[^)]*\)", r"\1", CARD.read_text(encoding="utf-8")))
        card = super().generate_model_card(*args, **{"name": self.name, **kwargs})
        if self.name in NAMED:
            card.data["license"] = NAMED[self.name].licence_id
        return card
