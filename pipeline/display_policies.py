"""What a person sees of a comparison of policies on the terminal."""

from rich.console import Console
from rich.table import Table

from components.policy_gate import LOGGED
from pipeline.ope import Comparison


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the policies, what they would have earned, and what speaks against it."""
    figures, metric = comparison.figures, comparison.metric
    log = figures["log"]
    without = log["rows_without_propensity"]
    more = f"; {without:,} more have no propensity" if without else ""
    console.print(
        f"{log['rows']:,} rows of {log['users']:,} users, {log['clicks']:,} clicks, "
        f"{log['mutes']:,} mutes{more}.",
        highlight=False,
    )
    definition = figures["definitions"][metric]
    console.print(f"{metric}: {definition}. Intervals are 95 %.", highlight=False)
    console.print(_table(figures, metric))
    for name, of_policy in figures["policies"].items():
        for finding in of_policy["findings"]:
            refused = finding["level"] == "refuse"
            mark = "[red]cannot be judged[/red]" if refused else "[yellow]care[/yellow]"
            console.print(f"{name}: {mark}: {finding['sentence']}", highlight=False)
    for name, reason in comparison.left_out.items():
        console.print(f"{name} is left out: {reason}", highlight=False)


def _table(figures: dict, metric: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in (
        "policy",
        "by",
        metric,
        "95 %",
        "gain over the log",
        "effective rows",
    ):
        justify = "left" if column in ("policy", "by") else "right"
        table.add_column(column, justify=justify)
    logged = figures[LOGGED][metric]
    rows = f"{figures['log']['rows']:,}"
    table.add_row("logged", "", *_cells(logged), "", rows)
    for name, of_policy in figures["policies"].items():
        estimator = of_policy["judged_by"]
        found = of_policy["metrics"][metric][estimator]
        gain, between = _cells(of_policy["gain"])
        effective = f"{of_policy['effective_rows']:,.0f}"
        table.add_row(name, estimator, *_cells(found), f"{gain} ({between})", effective)
    return table


def _cells(found: dict) -> tuple[str, str]:
    low, high = found["interval"]
    return f"{found['value']:.5f}", f"{low:.5f} to {high:.5f}"
