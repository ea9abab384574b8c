"""Download of models from the Hugging Face hub, the only network access of the package."""

import os
import re
from pathlib import Path

from st4rtrack.io.system_errors import causes, explain
from st4rtrack.types import UserError


def is_hub_id(source: str) -> bool:
    """Whether a string is "org/name" or "org/name:subfolder" rather than a path."""
    path = Path(source)
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w./-]+)?", source)) and not path.suffix and not path.parent.is_dir()


def fetch_folder(hub_id: str, *files: str) -> Path:
    """Download files of a model from the hub.

    Args:
        hub_id: "org/name" or "org/name:subfolder".
        files: names or patterns, including config.json.
    Returns:
        Path of the local folder.
    Raises:
        UserError: the hub library is not installed, the download failed, or there is no config.json.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"fetching {hub_id} needs the hub extra: pip install 'st4rtrack[hub]'") from None
    repository, _, subfolder = hub_id.partition(":")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    try:
        folder = snapshot_download(repository, allow_patterns=[f"{prefix}{file}" for file in files])
    except Exception as error:
        raise UserError(f"could not fetch {hub_id} (no such local path): {_hub_problem(error, repository)}") from None
    if not (Path(folder) / prefix / "config.json").is_file():
        where = f"in the folder {subfolder}" if subfolder else "at its top level; for a folder of it, use ORG/NAME:FOLDER"
        raise UserError(f"{repository} on the hub has no config.json and model.safetensors {where}")
    return Path(folder) / prefix


def _hub_problem(error: Exception, repository: str) -> str:
    """Cause and fix of a failed download, from class names and status codes, which are stable across versions of the library."""
    chain = list(causes(error))
    names = {base.__name__ for cause in chain for base in type(cause).__mro__}
    codes = {getattr(getattr(cause, "response", None), "status_code", None) for cause in chain}
    if "GatedRepoError" in names:
        return f"access is restricted; accept the terms at huggingface.co/{repository}, then log in: hf auth login"
    if "DisabledRepoError" in names:
        return "the hub has disabled this repository; use another model"
    if {"RepositoryNotFoundError", "HFValidationError"} & names or codes & {401, 404}:
        return "there is no such repository, or it is private; check the name, or log in: hf auth login"
    if codes & {403}:
        return "access was denied; check the permissions of your token: hf auth whoami"
    if codes & {429}:
        return "the hub limits the number of requests; wait some minutes, or log in: hf auth login"
    if any(isinstance(code, int) and code >= 500 for code in codes):
        return "the hub has a problem; try again later"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set and the model is not in the cache; unset it, or pass the path of a file or folder"
    if sentence := explain(error):
        return sentence
    return (
        "the hub cannot be reached and the model is not in the cache; check the network (proxy: HTTPS_PROXY, "
        "mirror: HF_ENDPOINT), or download it elsewhere and pass the path of its folder"
    )
