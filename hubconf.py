"""Named models for `torch.hub`: torch.hub.load(REPOSITORY, "tiny"). All options are those of `st4rtrack.load_model`."""

from functools import partial as _partial

from st4rtrack.model.checkpoint import load_model as _load_model
from st4rtrack.model.named import NAMED as _NAMED

dependencies = ["torch", "numpy", "cv2", "safetensors", "huggingface_hub", "tqdm"]

for _name, _model in _NAMED.items():
    _entry = _partial(_load_model, _name)
    _entry.__doc__ = f"{_model.purpose}. Licence of the weights: {_model.licence}."
    globals()[_name.replace("-", "_")] = _entry
