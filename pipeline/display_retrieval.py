"""What a person sees of retrieval on the terminal: recall, bias, what may be shown."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

MODELS = (
    "two_tower",
    "last_release",
    "item_knn_decay",
    "item_knn",
    "recent_popularity",
    "popularity",
)
_FIGURES = ("recall@10", "recall@50", "recall@100", "ndcg@10")
_BIAS = {
    "mrr": "MRR",
    "coverage@10": "coverage@10",
    "coverage@100": "coverage@100",
    "gini@10": "Gini@10",
    "popularity_percentile@10": "popularity percentile@10",
}


def figures_table(title: str, figures: dict, models: tuple, columns: tuple) -> Table:
    """Returns a table of figures with intervals, a row per model that was measured."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True, min_width=_longest(figures, models))
    for column in columns:
        table.add_column(column, justify="right")
    for model in models:
        if model in figures:
            row = figures[model]
            table.add_row(model, *(_with_interval(row, column) for column in columns))
    return table


def show_retrieval(console: Console, figures: dict) -> None:
    """Prints how well each model ranks, and which items it recommends at all.

    Args:
        console: the terminal.
        figures: `retrieval` of a run's figures.
    """
    test = figures["test"]
    console.print(
        figures_table(
            f"Retrieval: {test['events']:,} test events of {test['users']:,} users, "
            "all unseen items ranked (95 % intervals)",
            figures,
            MODELS,
            _FIGURES,
        )
    )
    if not any(model in figures for model in MODELS):
        return
    table = Table(
        title="Which items each recommends: shares of the index, evenness (Gini 0 is "
        "even), popularity (0.5 is random)",
        title_justify="left",
    )
    table.add_column("", no_wrap=True, min_width=_longest(figures, MODELS))
    for heading in _BIAS.values():
        table.add_column(heading, justify="right")
    for model in MODELS:
        if model in figures:
            row = figures[model]
            cells = (f"{row[name]:.3f}" if name in row else "" for name in _BIAS)
            table.add_row(model, *cells)
    console.print(table)
    if outside := test.get("events_outside_index"):
        console.print(
            f"{outside:,} of the test events are of items that may not be recommended "
            "now; nobody can find those.",
            highlight=False,
            soft_wrap=True,
        )


def show_candidates(console: Console, selection: dict) -> None:
    """Prints how many items may be recommended, and which rule removed the others.

    Args:
        console: the terminal.
        selection: `candidates` of a run's figures.
    """
    reasons = {
        "not_yet_available": "not yet available",
        "no_longer_available": "no longer available",
        "denied": "denied",
    }
    told = [f"{selection[key]:,} {text}" for key, text in reasons.items()]
    if selection["removed"]:
        console.print(
            f"Index: {selection['selected']:,} of {selection['items']:,} items "
            f"({', '.join(told)}).",
            highlight=False,
            soft_wrap=True,
        )
    if selection["empty_windows"]:
        first = escape(repr(selection["first_empty_window"]))
        console.print(
            f"[yellow]{selection['empty_windows']:,} item(s) become unavailable before "
            f"they are available, the first {first}: look at the items table.[/yellow]",
            highlight=False,
            soft_wrap=True,
        )
    if selection["unknown_denied"]:
        named = escape(", ".join(map(repr, selection["unknown_denied_ids"])))
        console.print(
            f"[yellow]{selection['unknown_denied']:,} id(s) of the deny list are of no "
            f"item of the catalogue, such as {named}.[/yellow]",
            highlight=False,
            soft_wrap=True,
        )


def _longest(figures: dict, models: tuple) -> int:
    """Returns the width of the names of the models that were measured."""
    return max((len(model) for model in models if model in figures), default=0)


def _with_interval(row: dict, column: str) -> str:
    if column not in row:
        return ""  # not known: AUC, say, where all labels are alike
    text = f"{row[column]:.3f}"
    if interval := row.get(f"{column}_interval"):
        text += f" [dim]({interval[0]:.3f} to {interval[1]:.3f})[/dim]"
    return text
