"""What a person sees of a search on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.tuning.search import Trial
from models.tuning.space import SearchSpace
from pipeline.tune import TuningResult


def trial_line(space: SearchSpace, trial: Trial) -> str:
    """Returns one line for a trial that ended."""
    values = ", ".join(f"{key}={value}" for key, value in trial.values.items())
    what = values or f"{space.section} as configured"
    came_to = ", ".join(f"{name} {value:.4f}" for name, value in trial.metrics.items())
    if trial.failure:
        came_to = f"failed: {trial.failure}"
    return f"  {trial.number:>3}  {trial.seconds:7.1f} s  {came_to}  ({what})"


def show_tuning(console: Console, result: TuningResult) -> None:
    """Prints the trials, the best first, and by how much it is better."""
    console.print(tuning_table(result))
    failed = sum(bool(trial.failure) for trial in result.trials)
    if failed:
        console.print(f"{failed} trial(s) failed; why stands above.", highlight=False)
    if result.is_out_of_time:
        console.print(
            "The minutes are over; the same command goes on from here.", highlight=False
        )
    if result.overlay is None:
        console.print("No trial was better than the config as it is.", highlight=False)
        return
    interval = ""
    if result.interval is not None:
        low, high = result.interval
        interval = f" (95 % interval {low:+.4f} to {high:+.4f})"
    console.print(
        f"The best is better by {result.gain:.4f} {result.objective.name} on the eval "
        f"split{interval}, which also chose it: `tandem run` measures it on the test "
        "split.",
        highlight=False,
    )


def tuning_table(result: TuningResult) -> Table:
    """Returns a row for each trial that was judged, the best first."""
    judged = [trial for trial in result.trials if trial.metrics]
    name = result.objective.name
    sign = 1 if result.objective.is_loss else -1
    judged.sort(key=lambda trial: (sign * trial.metrics[name], trial.number))
    keys = list(dict.fromkeys(key for trial in judged for key in trial.values))
    metrics = list(judged[0].metrics) if judged else []
    table = Table(
        title=f"{len(judged)} trials of `{result.section}`, on the eval split",
        title_justify="left",
    )
    for heading in ("trial", *metrics, "s"):
        table.add_column(heading, justify="right")
    for key in keys:
        table.add_column(escape(key))
    for trial in judged:
        values = [escape(str(trial.values.get(key, ""))) for key in keys]
        if not trial.values and keys:
            values[0] = "as configured"
        table.add_row(
            str(trial.number),
            *(f"{trial.metrics[metric]:.4f}" for metric in metrics),
            f"{trial.seconds:.0f}",
            *values,
            style="bold" if trial is result.best else None,
        )
    return table
