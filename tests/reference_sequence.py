"""The slow oracle of the sequence models: plain loops over rows, events and slots.

Each function takes one row: `events` [N, E] are its events, oldest first, no padding.
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, float)))


def softmax(logits) -> np.ndarray:
    odds = np.exp(np.asarray(logits, float) - np.max(logits))
    return odds / odds.sum()


def dense(x, weights, activation=lambda x: x) -> np.ndarray:
    """`weights` is (kernel, bias)."""
    kernel, bias = weights
    return activation(np.asarray(x, float) @ kernel + bias)


def relu(x):
    return np.maximum(x, 0.0)


def gru_states(events, gates) -> list:
    """States of a GRU after each event, eq. (5) to (8) of Cho et al. 2014.

    `gates` maps "update" (how much of the new), "reset" and "new" to (W, U, b) each.
    """
    h, states = np.zeros(len(gates["new"][1])), []
    for x in events:
        u, r = (
            sigmoid(x @ w + h @ u + b) for w, u, b in (gates["update"], gates["reset"])
        )
        w, recurrent, b = gates["new"]
        c = np.tanh(x @ w + (r * h) @ recurrent + b)
        h = (1 - u) * h + u * c
        states.append(h)
    return states


def lstm_state(events, gates) -> np.ndarray:
    """(c, h) after the last event; `gates` has "write", "keep", "show" and "new"."""
    size = len(gates["new"][1])
    c, h = np.zeros(size), np.zeros(size)
    for x in events:
        write, keep, show = (
            sigmoid(x @ w + h @ u + b)
            for w, u, b in (gates["write"], gates["keep"], gates["show"])
        )
        w, u, b = gates["new"]
        c = keep * c + write * np.tanh(x @ w + h @ u + b)
        h = show * np.tanh(c)
    return np.concatenate([c, h])


def augru_state(events, attention, gates, form: str) -> np.ndarray:
    """The state after the last event; "paper" or "code" of DIEN's AUGRU.

    The code keeps `(1 - a) * keep` of the old, with keep = 1 - update.
    """
    h = np.zeros(len(gates["new"][1]))
    for x, a in zip(events, attention, strict=True):
        u, r = (
            sigmoid(x @ w + h @ recurrent + b)
            for w, recurrent, b in (gates["update"], gates["reset"])
        )
        w, recurrent, b = gates["new"]
        c = np.tanh(x @ w + (r * h) @ recurrent + b)
        if form == "paper":
            h = (1 - a * u) * h + a * u * c
        else:
            keep = (1 - a) * (1 - u)
            h = keep * h + (1 - keep) * c
    return h


def target_attention(query, events, hidden, logit) -> np.ndarray:
    """Shares of the events, [N]: softmax of an MLP on [q, h, q - h, q * h].

    `hidden` is a list of (kernel, bias) of sigmoid layers, `logit` a kernel.
    """
    logits = []
    for event in events:
        x = np.concatenate([query, event, query - event, query * event])
        for layer in hidden:
            x = dense(x, layer, sigmoid)
        logits.append(float(x @ logit))
    return softmax(logits)


def caser_features(window, horizontal, vertical) -> np.ndarray:
    """o_v and o_h of a window [L, E]; `horizontal` maps a height to (filters, bias).

    filters: [height, E, n_h]; vertical: [L, n_v].
    """
    num_events, dim = window.shape
    out = []
    for component in range(dim):
        for v in range(vertical.shape[1]):
            out.append(
                sum(window[t, component] * vertical[t, v] for t in range(num_events))
            )
    for height, (filters, bias) in horizontal.items():
        for f in range(filters.shape[2]):
            found = []
            for start in range(num_events - height + 1):
                patch = window[start : start + height]
                found.append(
                    max(0.0, float((patch * filters[:, :, f]).sum()) + bias[f])
                )
            out.append(max(found))
    return np.array(out)


def shan_user(user, events, num_newest, long_key, hybrid_key) -> np.ndarray:
    """u_hybrid of SHAN, eq. (1) to (6); keys are (kernel, bias)."""
    events = np.asarray(events, float)
    older, newest = events[: max(len(events) - num_newest, 0)], events[-num_newest:]
    parts = list(newest)
    if len(older):
        alpha = softmax([user @ dense(v, long_key, relu) for v in older])
        parts = [sum(a * v for a, v in zip(alpha, older, strict=True)), *parts]
    if not parts:
        return np.zeros(len(user))
    beta = softmax([user @ dense(x, hybrid_key, relu) for x in parts])
    return sum(b * x for b, x in zip(beta, parts, strict=True))


def rum_items(query, events, num_slots) -> np.ndarray:
    """Reads the newest `num_slots` events."""
    slots = list(events)[-num_slots:]
    if not slots:
        return np.zeros(len(query))
    share = softmax([query @ m for m in slots])
    return sum(z * m for z, m in zip(share, slots, strict=True))


def rum_memory(events, keys, erase, add, dim) -> np.ndarray:
    """[K, E] after all events; keys [K, E], erase and add (kernel, bias)."""
    memory = np.zeros((len(keys), dim))
    for q in events:
        share = softmax([f @ q for f in keys])
        e, a = dense(q, erase, sigmoid), dense(q, add, np.tanh)
        for k in range(len(keys)):
            memory[k] = memory[k] * (1 - share[k] * e)
            memory[k] = memory[k] + share[k] * a
    return memory


def rum_features(query, memory, keys) -> np.ndarray:
    """Reads a memory [K, E] at the keys."""
    share = softmax([f @ query for f in keys])
    return sum(z * m for z, m in zip(share, memory, strict=True))


def dice(x, mean, variance, alpha, epsilon=1e-8) -> np.ndarray:
    """DIN's eq. (4) on rows [N, D]."""
    p = sigmoid((x - mean) / np.sqrt(variance + epsilon))
    return p * x + (1 - p) * alpha * x


def next_event_loss(states, events, ids, drawn, network) -> float:
    """DIEN's auxiliary loss of a batch, -log p(next) - log(1 - p(drawn)) a pair.

    `states` [B, T, H] and `events` [B, T, E] hold padding where `ids` [B, T] are 0;
    `drawn[b][t]` is the place (row, column) drawn against the event at t, or None;
    `network` is (hidden layers, logit layer), each (kernel, bias).
    """
    hidden, logit = network
    total, num_pairs = 0.0, 0
    for b in range(len(ids)):
        for t in range(1, len(ids[b])):
            if ids[b, t - 1] == 0 or ids[b, t] == 0:
                continue
            num_pairs += 1
            places = [(b, t), drawn[b][t]]
            for is_next, place in zip((True, False), places, strict=True):
                if place is None or (not is_next and ids[place] == ids[b, t]):
                    continue
                x = np.concatenate([states[b, t - 1], events[place]])
                for layer in hidden:
                    x = dense(x, layer, sigmoid)
                p = float(sigmoid(dense(x, logit))[0])
                total -= np.log(p if is_next else 1 - p)
    return total / num_pairs if num_pairs else 0.0
