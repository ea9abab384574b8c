"""Random damage to the bytes of a valid file."""

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def flip_bits(count: int) -> Damage:
    """Flips bits at random places."""

    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        changed = np.frombuffer(data, np.uint8).copy()
        np.bitwise_xor.at(changed, rng.integers(0, len(changed), count), np.uint8(1) << rng.integers(0, 8, count, np.uint8))
        return changed.tobytes()

    return damage


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Ends the file early."""
    return data[: rng.integers(1, len(data))]


def hole(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of zeros, as a download in pieces leaves it."""
    start = rng.integers(0, len(data) * 3 // 4)
    length = len(data) // 4
    return data[:start] + bytes(length) + data[start + length :]


def scramble_start(data: bytes, rng: np.random.Generator) -> bytes:
    """Another header."""
    return rng.bytes(24) + data[24:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes that do not belong there, so that every later offset is wrong."""
    place = rng.integers(0, len(data))
    return data[:place] + rng.bytes(37) + data[place:]


def huge_numbers(data: bytes, rng: np.random.Generator) -> bytes:
    """Eight bytes of ones somewhere in the first kilobyte: where a size or a count stands, it is enormous now."""
    place = rng.integers(4, max(5, min(1024, len(data) - 8)))
    return data[:place] + b"\xff" * 7 + b"\x7f" + data[place + 8 :]


DAMAGES: dict[str, Damage] = {
    "bit": flip_bits(1),
    "bits": flip_bits(12),
    "many-bits": flip_bits(200),
    "cut": cut,
    "hole": hole,
    "start": scramble_start,
    "insert": insert,
    "huge": huge_numbers,
}
