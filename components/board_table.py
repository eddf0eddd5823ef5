"""Figures as tables of Markdown, which TensorBoard renders."""


def figure_cell(row: dict, name: str) -> str:
    """Returns a figure with its interval, where it has one; "" where it is not known."""
    if name not in row:
        return ""
    interval = row.get(f"{name}_interval")
    between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{row[name]:.3f}{between}"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures_table(figures: dict[str, dict], models: list[str], names) -> str:
    """Returns a row for each of the named figures, a column for each model."""
    rows = [
        [name, *(figure_cell(figures[model], name) for model in models)]
        for name in names
    ]
    return markdown_table(["", *models], rows)


def slice_table(
    figures: dict[str, dict], models: list[str], slicing: str, count: str, figure: str
) -> str:
    """Returns how many rows each label of a slicing has, and each model's figure there.

    Args:
        figures: of each model; its `slices` have the same labels.
        models: columns, at least one.
        slicing: which of the slices.
        count: name of the number of rows.
        figure: name of the figure.
    """
    rows = [
        [
            f"{place}: {label}",
            str(inside[count]),
            *(
                figure_cell(figures[name]["slices"][slicing][label], figure)
                for name in models
            ),
        ]
        for place, (label, inside) in enumerate(
            figures[models[0]]["slices"][slicing].items()
        )
    ]
    heads = (f"{figure} of {name}" for name in models)
    return markdown_table([slicing, count, *heads], rows)
