"""What a person sees of a refresh of the items on the terminal."""

from rich.console import Console

from components.item_changes import named
from pipeline.display import show_gates
from pipeline.refresh import RefreshOptions, RefreshResult


def show_refresh(
    console: Console, result: RefreshResult, options: RefreshOptions, arguments: str
) -> None:
    """Prints what changed, what was made of it, and what to do next.

    Args:
        console: where to.
        result: of the refresh.
        options: of the refresh.
        arguments: of the command line, to be typed again.
    """
    for line in _read(result):
        _say(console, line)
    for line in _changed(result):
        _say(console, line)
    show_gates(console, {gate.gate: _as_figures(gate) for gate in result.gates})
    if result.refused:
        _say(console, f"Nothing was pushed: release {result.base} stays the newest.")
        return
    if result.release is not None:
        _say(console, f"Index: {result.index_reason}.")
        _say(
            console,
            f"Release {result.release} is pushed; servers that watch the root take it "
            f"over. Release {result.base} stays beside it.",
        )
    elif options.dry_run:
        _say(console, f"Next: tandem items refresh {arguments}")
    else:
        _say(console, f"Nothing changed: release {result.base} stays the newest.")


def _read(result: RefreshResult):
    account, selection = result.account, result.selection
    if account is None:
        yield "The config declares no items table: the items are those of the release."
    elif account.dead_letters:
        reason = account.reasons[0]
        yield (
            f"Refused in the items table: {account.dead_letters:,} of {account.read:,} "
            f"records, {reason.count:,} of them because `{reason.field}` {reason.rule}."
        )
    yield (
        f"{selection.selected:,} of {selection.items:,} items may be recommended at "
        f"{selection.at.isoformat(timespec='seconds')}: {selection.denied:,} denied, "
        f"{selection.not_yet_available:,} not yet and {selection.no_longer_available:,} "
        "no longer available."
    )
    if result.left_out:
        yield f"Left out, for want of features: {named(result.left_out)}."


def _changed(result: RefreshResult):
    changes = result.changes
    yield (
        f"Against release {result.base}: {len(changes.added):,} added, "
        f"{len(changes.changed):,} changed, {len(changes.removed):,} removed, "
        f"{changes.unchanged:,} unchanged."
    )
    for kind in ("added", "changed", "removed"):
        if ids := getattr(changes, kind):
            yield f"  {kind}: {named(ids)}"
    if result.details_changed and not changes:
        yield "  What the models do not see of the items, such as a title, differs."


def _as_figures(gate) -> dict:
    return {"passed": gate.passed, "reason": gate.reason}


def _say(console: Console, line: str) -> None:
    # Ids may look like markup.
    console.print(line, markup=False, highlight=False, soft_wrap=True)
