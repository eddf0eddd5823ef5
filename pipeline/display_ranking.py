"""What a person sees of ranking on the terminal: figures beside the baselines'."""

from rich.console import Console

from pipeline.display_retrieval import figures_table

_FIGURES = ("auc", "gauc", "logloss", "calibration")
_OTHERS = ("last_release", "popularity", "position", "constant")


def show_ranking(console: Console, figures: dict) -> None:
    """Prints how well each model orders the labelled rows, and how far it is off.

    Args:
        console: the terminal.
        figures: `ranking` of a run's figures.
    """
    test = figures["test"]
    if not test["rows"]:
        return
    # Whatever the ranker is called, it is measured as the others are; TFMA's figures,
    # which stand beside, are of the same model.
    measured = [
        name
        for name, row in figures.items()
        if isinstance(row, dict) and "rows_without_prediction" in row
    ]
    models = tuple(name for name in measured if name not in _OTHERS) + _OTHERS
    console.print(
        figures_table(
            f"Ranking: {test['rows']:,} test rows of {test['users']:,} users (95 % "
            "intervals)",
            figures,
            models,
            _FIGURES,
        )
    )
