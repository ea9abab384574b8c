"""Download of models from the Hugging Face hub, the only network access of the package."""

import errno
import hashlib
import logging
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from st4rtrack.io.system_errors import causes, explain
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

bar_class: type[tqdm] = tqdm
"""Progress bar of downloads; the command line replaces it for --quiet and --json."""
LARGE_BYTES = 1 << 20
"""Smaller files are downloaded without a message and a progress bar."""


def is_hub_id(source: str) -> bool:
    """Whether a string is "org/name" or "org/name:subfolder" rather than a path."""
    path = Path(source)
    part = r"[\w-][\w.-]*"  # never `..`
    return bool(re.fullmatch(rf"{part}/{part}(:{part}(/{part})*/?)?", source)) and not path.suffix and not path.parent.is_dir()


def fetch_folder(hub_id: str, *files: str, terms: str = "", sha256: str = "", **options: Any) -> Path:
    """Download files of a model from the hub, or take them from the cache; an interrupted download is resumed.

    Args:
        hub_id: "org/name" or "org/name:subfolder".
        files: names or patterns, including config.json.
        terms: licence of the weights, named before they are downloaded.
        sha256: known hash of the `.safetensors` file; "" compares with the hash that the hub states.
        options: `revision`, `token`, `cache_dir`, `local_files_only` and `force_download` of the hub library.
    Returns:
        Path of the local folder.
    Raises:
        UserError: the download failed, the hash differs, the disk is too small, or there is no config.json.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    repository, prefix = _split(hub_id)
    paths_in_repository = [f"{prefix}{file}" for file in files]
    try:
        if any("*" in name for name in paths_in_repository):
            folder = Path(snapshot_download(repository, allow_patterns=paths_in_repository, **options)) / prefix
        else:
            paths = []
            for name in paths_in_repository:
                if not (options.get("local_files_only") or options.get("force_download")):
                    _download(repository, name, terms, sha256, options)
                paths.append(Path(hf_hub_download(repository, name, **options)))
            folder = paths[0].parent
    except UserError:
        raise
    except Exception as error:
        where = {name: options.get(name) for name in ("revision", "cache_dir")}
        if cached := cached_folder(hub_id, *files, **where):  # offline, or refused
            return cached
        names = {base.__name__ for base in type(error).__mro__}
        if "EntryNotFoundError" in names and "LocalEntryNotFoundError" not in names:
            _refuse_empty(repository, prefix)
        raise UserError(f"could not fetch {hub_id}: {_hub_problem(error, repository)}") from None
    if not (folder / "config.json").is_file():
        _refuse_empty(repository, prefix)
    return folder


def cached_folder(hub_id: str, *files: str, revision: str | None = None, cache_dir: str | Path | None = None) -> Path | None:
    """Local folder of a model whose files are all in the cache of the hub library, else `None`; needs no network."""
    from huggingface_hub import try_to_load_from_cache

    repository, prefix = _split(hub_id)
    try:
        paths = [try_to_load_from_cache(repository, f"{prefix}{file}", cache_dir, revision) for file in files]
    except (ValueError, OSError):  # no name of a repository, or the cache cannot be read
        return None
    return Path(str(paths[0])).parent if all(isinstance(path, str) for path in paths) else None


def _split(hub_id: str) -> tuple[str, str]:
    """Repository and prefix of the file names."""
    repository, _, subfolder = hub_id.partition(":")
    return repository, f"{subfolder.strip('/')}/" if subfolder else ""


def _download(repository: str, name: str, terms: str, sha256: str, options: dict[str, Any]) -> None:
    """Download a file into the cache of the hub library, unless it is there."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    url, token = hf_hub_url(repository, name, revision=options.get("revision")), options.get("token")
    remote = get_hf_file_metadata(url, token=token)
    etag = remote.etag or ""
    if not re.fullmatch(r"[\w-]+", etag):
        return
    weights = name.endswith(".safetensors")
    stated = etag if len(etag) == 64 else ""  # large files are named by their SHA-256
    if weights and sha256 and stated not in ("", sha256):
        raise UserError(
            f"{repository}: {name} on the hub has changed (SHA-256 {stated[:12]}, known {sha256[:12]}); "
            "update st4rtrack, or pass the hub id to use it as it is"
        )
    cache = Path(options.get("cache_dir") or constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=repository, repo_type="model")
    blob, lock = cache / folder / "blobs" / etag, cache / ".locks" / folder / f"{etag}.lock"  # as the library names them
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # another process may be downloading it
        if not blob.exists():
            part = blob.with_name(f"{blob.name}.incomplete")
            _transfer(url, part, remote.size, token, repository, terms if weights else "")
            _verify(part, (sha256 if weights else "") or stated, f"{repository}: {name}")
            part.replace(blob)


def _transfer(url: str, part: Path, size: int | None, token: Any, repository: str, terms: str) -> None:
    """Append the missing bytes of a file to `part`."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    done = part.stat().st_size if part.exists() else 0
    if size is not None and done > size:
        part.unlink()
        done = 0
    large = size is None or size >= LARGE_BYTES
    needed, free = (size or 0) - done, shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{repository} needs {size_text(needed)} in {part.parents[2]}, which has {size_text(free)} free; "
            "free some space, or set HF_HOME to a folder on another disk"
        )
    if large or terms:
        verb, text = "resuming" if done else "downloading", terms or f"its licence is at huggingface.co/{repository}"
        logger.log(logging.WARNING if terms else logging.INFO, "%s %s (%s): %s", verb, repository, size_text(size), text)
    bar = bar_class(total=size, initial=done, unit="B", unit_scale=True, desc=repository, disable=not large)
    get = partial(http_get, url, headers=build_hf_headers(token=token), expected_size=size, _tqdm_bar=bar)  # pyright: ignore[reportArgumentType]
    with part.open("ab") as file, bar:
        while True:
            try:
                return get(temp_file=file, resume_size=done)
            except Exception as error:
                if getattr(error, "response", None) is not None or explain(error):
                    raise
                if file.tell() == done:  # no progress since the last attempt
                    raise UserError(
                        f"the download of {repository} was interrupted at {size_text(done)} of {size_text(size)}; "
                        "run the same command again to resume"
                    ) from error
                done = file.tell()


def _verify(path: Path, sha256: str, name: str) -> None:
    """Compare the SHA-256 of a downloaded file, if it is known; a file with another one is removed."""
    if not sha256:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise UserError(
            f"{name} was damaged in the download: SHA-256 is {found[:12]}, must be {sha256[:12]}; run the same command again"
        )


def size_text(count: int | None) -> str:
    """Number of bytes as text."""
    return "unknown size" if count is None else f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _refuse_empty(repository: str, prefix: str) -> NoReturn:
    where = f"in the folder {prefix.strip('/')}" if prefix else "at its top level; for a folder of it, use ORG/NAME:FOLDER"
    raise UserError(f"{repository} on the hub has no config.json and model.safetensors {where}")


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
    for cause in chain:
        if isinstance(cause, OSError) and cause.filename and cause.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the cache cannot be used at {cause.filename} ({cause.strerror}); set HF_HOME to a folder that can be written"
    if sentence := explain(error):
        return sentence
    return (
        "the hub cannot be reached and the model is not in the cache; check the network (proxy: HTTPS_PROXY, "
        "mirror: HF_ENDPOINT), or download it elsewhere and pass the path of its folder"
    )
