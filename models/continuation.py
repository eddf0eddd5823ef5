"""Why a release cannot be continued from; apart, so that saying so loads no TensorFlow."""

from collections.abc import Mapping

MEND = "train anew with `--from-scratch`"


class ContinuationError(ValueError):
    """A release that cannot be continued from; the message says why and the mend."""


def check_settings(
    now: Mapping[str, object], before: Mapping[str, object], known: str
) -> None:
    """Checks that what gives weights their meaning is as it was.

    Args:
        now: settings of the config by their place in it.
        before: settings that the release was trained with, by the same.
        known: what would be continued from and how it came to be: "the release to
            continue from was trained".

    Raises:
        ContinuationError: naming the first setting that differs.
    """
    for name in sorted({*now, *before}):
        if now.get(name) != before.get(name):
            raise ContinuationError(
                f"{name}: {now.get(name)}, but {known} with {before.get(name)}. Set it "
                f"back, or {MEND}."
            )


def check_unseen(trained_through: int, until: int, known: str, rows: str) -> None:
    """Checks that a release has learnt from nothing that it would be tested on.

    Args:
        trained_through: ms; the newest of what it has learnt from.
        until: ms; what may be learnt from lies before it.
        known: what would be continued from: "the release to continue from".
        rows: what it learns from: "events".

    Raises:
        ContinuationError: if it has learnt from something at `until` or after.
    """
    if trained_through >= until:
        raise ContinuationError(
            f"{known} has learnt from {rows} up to {trained_through} (ms), and the span "
            f"to run begins at {until}: it would be tested on what it knows. Run a later "
            f"span, or {MEND}."
        )
