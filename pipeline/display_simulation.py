"""The rounds of a simulated closed loop, as tables for a terminal."""

from rich.table import Table

from pipeline.simulation.rounds import Simulation


def rounds_table(simulation: Simulation) -> Table:
    """Returns what users were shown, round by round."""
    table = Table(title="Chance of a click of a place, and what is lost of the best")
    table.add_column("round", justify="right")
    table.add_column("policy")
    for name in ("requests", "clicks", "value", "best", "regret", "uniform's"):
        table.add_column(name, justify="right")
    for each in simulation.rounds:
        table.add_row(
            str(each.number),
            each.policy,
            f"{each.requests:,}",
            f"{each.clicks:,}",
            *(f"{value:.4f}" for value in (each.value, each.best)),
            *(f"{value:.4f}" for value in (each.regret, each.uniform_regret)),
        )
    return table


def judgements_table(simulation: Simulation) -> Table:
    """Returns what off-policy evaluation said of each release, beside the truth."""
    table = Table(title="What each log said of the release that learnt from it")
    table.add_column("after round", justify="right")
    table.add_column("release")
    for name in ("log earned", "estimate", "truth"):
        table.add_column(name, justify="right")
    for each in simulation.judgements:
        table.add_row(
            str(each.after),
            "refused" if each.release is None else str(each.release),
            f"{each.logged:.4f}",
            f"{each.estimate:.4f} ({each.low:.4f} to {each.high:.4f})",
            f"{each.truth:.4f}",
        )
    return table
