"""Long histories as several sequences, for a model that reads the newest items alone."""

import numpy as np

from models.retrieval.evaluation import Interactions


def pieces(
    train: Interactions, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts each user's events, from the newest back, into pieces of `length`.

    A piece has the last item of the one before at its head, as what its own first item
    is predicted from, so each event but a user's first is predicted once.

    Args:
        train: in order of time.
        length: of a piece, without its head.

    Returns:
        sequence: [n] int64, tells the pieces apart.
        items: [n] int64.
        place: [n] int64, ascending with time within a sequence.
    """
    order = np.argsort(train.users, kind="stable")
    users, items = train.users[order], train.items[order]
    first = np.searchsorted(users, users, side="left")
    last = np.searchsorted(users, users, side="right") - 1
    place = np.arange(len(users))
    piece = (last - place) // length  # 0 is the newest
    is_head = (place > first) & ((last - place) % length == length - 1)
    heads = np.flatnonzero(is_head)
    users, piece = (np.concatenate([all_, all_[heads]]) for all_ in (users, piece))
    place = np.concatenate([place, heads - 1])
    in_order = np.lexsort((place, piece, users))
    sequence = users * (int(piece.max(initial=0)) + 1) + piece
    return sequence[in_order], items[place[in_order]], place[in_order]
