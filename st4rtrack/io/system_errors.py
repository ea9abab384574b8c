"""User-readable messages for OS and resource errors: full disk, out of memory, permissions, lost drive."""

import errno
from collections.abc import Iterator

_GOES_ON = "then run the same command again (what is complete is kept)"
_DEVICE_MEMORY = f"the device has no memory left; use a smaller --batch-size or --size, or --device cpu, {_GOES_ON}"
_HOST_MEMORY = f"this machine has no memory left; use a smaller --batch-size or --size, or end other programs, {_GOES_ON}"
_DISK_FULL = "no space is left on the disk{where}; free some"

_BY_NUMBER = {
    errno.ENOSPC: f"{_DISK_FULL}, {_GOES_ON}",
    errno.EDQUOT: f"the disk quota is exceeded{{where}}; free some space, {_GOES_ON}",
    errno.EFBIG: f"a file may not become larger{{where}} (limit of the file system or shell); raise the limit, {_GOES_ON}",
    errno.EROFS: "the disk is read-only{where}; choose another folder with -o, or mount the disk for writing",
    errno.EACCES: f"permission was refused{{where}}; restore it (chmod, chown), {_GOES_ON}",
    errno.EPERM: f"permission was refused{{where}}; restore it (chmod, chown), {_GOES_ON}",
    errno.EIO: "the disk cannot be read or written{where}; check the disk and back up its content",
    errno.EMFILE: "too many files are open; raise the limit with ulimit -n",
    errno.ENAMETOOLONG: "a file or folder name is too long{where} (most systems allow 255 bytes); choose a shorter one with -o",
    errno.ENOMEM: _HOST_MEMORY,
    errno.ESTALE: f"the network drive was lost{{where}}; mount it again, {_GOES_ON}",
}
"""Messages by `errno`; `{where}` is replaced by the file."""

_BY_WORDS = {
    "No space left on device": _DISK_FULL.format(where="") + f", {_GOES_ON}",  # from libraries that do not set errno
    "can't allocate memory": _HOST_MEMORY,
    "not enough memory": _HOST_MEMORY,
    "CUDA out of memory": _DEVICE_MEMORY,
    "MPS backend out of memory": _DEVICE_MEMORY,
    "CUDA driver version is insufficient": "the GPU driver is too old for this PyTorch; update the driver, or use --device cpu",
}


def explain(error: BaseException) -> str | None:
    """Message with a fix if an error or one of its causes is an OS or resource error; else `None`."""
    for cause in causes(error):
        if type(cause).__name__ == "OutOfMemoryError":  # PyTorch's; checked by name to avoid the import
            return _DEVICE_MEMORY
        if isinstance(cause, MemoryError):
            return _HOST_MEMORY
        if isinstance(cause, OSError) and cause.errno == errno.ENOENT and cause.filename is None:  # of os.getcwd
            return "the current folder was deleted; change to another one"
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno].format(where=f" at {cause.filename}" if cause.filename else "")
        for words, sentence in _BY_WORDS.items():
            if words in str(cause):
                return sentence
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and the chain of its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
