"""The slow oracle of HPMN's memory, in plain NumPy and plain loops.

As in `tests/reference.py`: nothing is imported from the packages under test, and a
formula is written as its paper writes it. Every function takes weights as arrays.
"""

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gru_step(x: np.ndarray, h: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the next state of one row, [H], after x [E]: TF1's `GRUCell`.

    `w` holds `kernel` [E, 3H] (reset, keep, candidate), `recurrent_gates` [H, 2H],
    `recurrent_candidate` [H, H], `gate_bias` [2H] and `candidate_bias` [H].
    """
    units = len(h)
    reset_u, keep_u = w["recurrent_gates"][:, :units], w["recurrent_gates"][:, units:]
    reset_w, keep_w, new_w = (
        w["kernel"][:, :units],
        w["kernel"][:, units : 2 * units],
        w["kernel"][:, 2 * units :],
    )
    reset = sigmoid(x @ reset_w + h @ reset_u + w["gate_bias"][:units])
    keep = sigmoid(x @ keep_w + h @ keep_u + w["gate_bias"][units:])
    held = reset * h
    new = np.tanh(x @ new_w + held @ w["recurrent_candidate"] + w["candidate_bias"])
    return keep * h + (1.0 - keep) * new


def hierarchical_memory(
    events: list[np.ndarray], layers: list[dict[str, np.ndarray]], periods: list[int]
) -> np.ndarray:
    """Returns one user's memory [D, H] after the events, oldest first.

    After event i (1, 2, ...), layer j moves where i is a multiple of its period, and
    reads what the layer below holds by then; the first reads the event.
    """
    units = len(layers[0]["candidate_bias"])
    memory = [np.zeros(units) for _ in layers]
    for number, event in enumerate(events, start=1):
        below = event
        for j, (layer, period) in enumerate(zip(layers, periods, strict=True)):
            if number % period == 0:
                memory[j] = gru_step(below, memory[j], layer)
            below = memory[j]
    return np.stack(memory)


def memory_read(
    memory: np.ndarray, target: np.ndarray, w: dict, hops: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a target [V] reads of one memory [D, H], and the weights [hops, D].

    `w` holds `query` and `dense` (pairs of kernel and bias; `dense` is the list of the
    energy's layers, the last of one unit) and `hop` [H, H].
    """
    kernel, bias = w["query"]
    query = target @ kernel + bias
    all_weights = []
    for _ in range(hops):
        energies = []
        for slot in memory:
            hidden = np.concatenate([query, slot, query - slot, query * slot])
            *inner, last = w["dense"]
            for kernel, bias in inner:
                hidden = np.maximum(hidden @ kernel + bias, 0.0)
            energies.append((hidden @ last[0] + last[1])[0])
        share = np.exp(np.array(energies) - max(energies))
        share /= share.sum()
        read = sum(part * slot for part, slot in zip(share, memory, strict=True))
        query = query @ w["hop"] + read
        all_weights.append(share)
    return query, np.stack(all_weights)


def slot_covariances(memory: np.ndarray) -> np.ndarray:
    """Returns [D, D]: the covariance of each two slots of one memory [D, H]."""
    slots, units = memory.shape
    covariance = np.zeros([slots, slots])
    for i in range(slots):
        for j in range(slots):
            a, b = memory[i] - memory[i].mean(), memory[j] - memory[j].mean()
            covariance[i, j] = sum(a[k] * b[k] for k in range(units)) / units
    return covariance


def covariance_norm(memories: np.ndarray) -> float:
    """Returns the authors' code's penalty of memories [B, D, H]."""
    total = 0.0
    for memory in memories:
        covariance = slot_covariances(memory)
        np.fill_diagonal(covariance, 0.0)
        total += np.sqrt((covariance**2).sum())
    return total


def covariance_square(memories: np.ndarray) -> float:
    """Returns the paper's: half of what the squares have off the diagonal."""
    total = 0.0
    for memory in memories:
        covariance = slot_covariances(memory)
        diagonal = np.diag(covariance)
        total += 0.5 * ((covariance**2).sum() - (diagonal**2).sum())
    return total
