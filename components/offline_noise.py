"""The random numbers of `models.policy.noise`, in NumPy, for one seed."""

import numpy as np

_UINT64 = np.uint64
# Uses of a seed, as `models.policy.noise` numbers them.
COIN, RANDOM_ITEM, ITEM_DRAW, SHARED_DRAW, SHARED_SAMPLES, OWN_SAMPLES = range(1, 7)
PLACE_NOISE = 7


def gumbel(seed: int, keys: np.ndarray) -> np.ndarray:
    """Returns [C] the noise of `models.policy.gumbel_noise` for one seed, in NumPy."""
    return -np.log(-np.log(uniform(seed, keys)))


def uniform(seed: int, keys: np.ndarray) -> np.ndarray:
    """Returns [C] the noise of `models.policy.noise.uniform_noise`."""
    with np.errstate(over="ignore"):  # wrapping around 2^64 is the point
        mixed = _splitmix64(_as_uint64(seed))
        bits = _splitmix64(mixed + keys.astype(_UINT64)) >> _UINT64(12)
    return (bits.astype(np.float64) + 0.5) / 2.0**52


def place_seed(seed: int, place: int, use: int) -> int:
    """Returns what `models.policy.noise.place_seeds` does."""
    with np.errstate(over="ignore"):
        mixed = _splitmix64(_as_uint64(seed)) ^ _UINT64((use << 32) + place)
        return int(_splitmix64(mixed).astype(np.int64)[0])


def _as_uint64(seed: int) -> np.ndarray:
    return np.array([seed], np.int64).astype(_UINT64)


def _splitmix64(x: np.ndarray) -> np.ndarray:
    x = x + _UINT64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _UINT64(30))) * _UINT64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _UINT64(27))) * _UINT64(0x94D049BB133111EB)
    return x ^ (x >> _UINT64(31))
