"""Named models: what `--model NAME` and `load_model(NAME)` fetch from the Hugging Face hub on first use."""

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path

from st4rtrack.model.hub import cached_folder, fetch_folder

logger = logging.getLogger(__name__)

FILES = ("config.json", "model.safetensors")
"""Files of a model in its repository or folder."""


@dataclass(frozen=True)
class NamedModel:
    """A model with a name.

    Attributes:
        purpose: what it was trained for.
        licence: licence of the weights.
        size_bytes: size of the download, computed from the number of parameters; the exact size is shown when it starts.
        hub_id: "org/name" or "org/name:subfolder"; "" for the embedded model.
        licence_id: licence in the metadata of the hub.
        revision: branch, tag or commit on the hub.
        sha256: hash of `model.safetensors`; "" if it is not known yet: then the hash that the hub states is compared.
    """

    purpose: str
    licence: str
    size_bytes: int
    hub_id: str = ""
    licence_id: str = "cc-by-nc-sa-4.0"
    revision: str = "main"
    sha256: str = ""

    @property
    def cached(self) -> Path | None:
        """Local folder if the model is downloaded; needs no network."""
        return cached_folder(self.hub_id, *FILES, revision=self.revision) if self.hub_id else Path(__file__).parent / "weights"

    def fetch(self) -> Path:
        """Local folder of the model, which is downloaded on first use."""
        terms = f"{self.licence}; terms: huggingface.co/{self.hub_id.partition(':')[0]}"
        if cached := self.cached:  # whoever copied a cache has not read the licence
            if self.hub_id:
                logger.info("using %s from the cache: %s", self.hub_id, terms)
            return cached
        return fetch_folder(self.hub_id, *FILES, terms=terms, sha256=self.sha256, revision=self.revision)


_NAVER = "non-commercial use only: CC BY-NC-SA 4.0"
_ST4RTRACK = "non-commercial scientific research only"
_LARGE_BYTES = 2_285_000_000

NAMED: dict[str, NamedModel] = {
    "tiny": NamedModel("embedded, for CPUs", "Apache-2.0", 10_828_576, licence_id="apache-2.0"),
    "st4rtrack": NamedModel(
        "the released model, trained on sequences; scores close to the paper's",
        _ST4RTRACK,
        _LARGE_BYTES,
        "yupengchengg147/St4RTrack",
        "other",
    ),
    "st4rtrack-pair": NamedModel(
        "the released model, trained on pairs",
        _ST4RTRACK,
        _LARGE_BYTES,
        "yupengchengg147/St4RTrack:Pair",
        "other",
    ),
    "dust3r": NamedModel(
        "baseline for static scenes, initial weights",
        _NAVER,
        _LARGE_BYTES,
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt",
    ),
    "mast3r": NamedModel(
        "initial weights of the paper's training",
        f"{_NAVER}, and the terms of its training data",
        2_755_000_000,
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
    ),
    "monst3r": NamedModel(
        "baseline for dynamic scenes, initial weights",
        _NAVER,
        _LARGE_BYTES,
        "Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt",
    ),
}
"""Named models by name."""


def suggestion(name: str) -> str:
    """The named model that was probably meant, as the start of a sentence; "" if none is similar."""
    close = difflib.get_close_matches(name.lower(), NAMED, n=1, cutoff=0.6)
    return f"did you mean {close[0]}? Otherwise " if close else ""
