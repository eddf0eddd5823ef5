"""The job that `benchmarks.ingest` measures, in terms that all who do it share.

An event log, an items and a users table become tf.Examples in gzipped TFRecord files:
`interactions` (clicks) and `impressions` (with the label and reward of the response that
counts), each split by time, with the user's history at that moment; dead letters,
profiles and the catalogue beside them. Nothing but the standard library is imported
here, so that each peer's environment can read it.
"""

WINDOW_MS = 10 * 60_000
HISTORY_LENGTH = 50
SEEN_LENGTH = 2000
TEST_FRACTION, EVAL_FRACTION = 0.2, 0.1
SPLITS = ("train", "eval", "test")
EXAMPLES = ("interactions", "impressions")

MAX_ID_BYTES = 1024
MAX_TIMESTAMP = 253_402_300_799_999

# In the order in which responses count.
EVENT_TYPES = {
    "impression": {"reward": 0.5, "label": 0.0, "positive": False},
    "click": {
        "reward": 1.0,
        "label": 1.0,
        "positive": True,
        "answers": "impression",
    },
    "mute": {
        "reward": 0.0,
        "label": 0.0,
        "positive": False,
        "answers": "impression",
    },
}
FEATURES = {
    "item": {
        "category": "categorical",
        "tags": "multi_categorical",
        "price": "numeric",
    },
    "user": {"country": "categorical", "age": "numeric"},
}


def split_cuts(timestamps: list[int]) -> tuple[int, int]:
    """Returns when eval and test begin, of all accepted timestamps in order."""

    def cut(count: int, fraction: float, nothing: int) -> int:
        later = round(count * fraction)
        return int(timestamps[count - later]) if later else nothing

    if not len(timestamps):
        return 0, 0
    test_from = cut(len(timestamps), TEST_FRACTION, int(timestamps[-1]) + 1)
    below, above = 0, len(timestamps)
    while below < above:  # the first that is not before test
        middle = (below + above) // 2
        if timestamps[middle] < test_from:
            below = middle + 1
        else:
            above = middle
    return cut(below, EVAL_FRACTION, test_from), test_from
