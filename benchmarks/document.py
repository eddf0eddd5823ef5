"""Puts tables and plots of results into the docs: `python -m benchmarks.document`."""

import re
from pathlib import Path

from benchmarks.plot import Plot, drawn
from benchmarks.result import RESULTS, Result, markdown_table, read_result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PLOTS = PAGE.parent / "plots"
_MARK = r"(?P<begin><!-- results: (?P<name>\w+) -->).*?(?P<end><!-- end -->)"


def with_tables(text: str, results: Path = RESULTS) -> str:
    """Returns the page with tables and links to plots made anew from results' files.

    They stand between `<!-- results: NAME -->` and `<!-- end -->`; where there is no
    result on file, the page says so.

    Raises:
        ValueError: if a result is of a quick run, which is no measurement to show.
    """

    def shown(found: re.Match[str]) -> str:
        result = _full_result(found["name"], results)
        if result is None:
            return f"{found['begin']}\nNo full run is on file.\n{found['end']}"
        links = [
            f"![{plot.title}]({PLOTS.name}/{_file_name(result, plot)})\n"
            for plot in plots_of(result)
        ]
        parts = [found["begin"] + "\n", markdown_table(result), *links, found["end"]]
        return "\n".join(parts)

    return re.sub(_MARK, shown, text, flags=re.DOTALL)


def drawn_plots(text: str, results: Path = RESULTS) -> dict[str, str]:
    """Returns the SVG of each plot that the page links to, by the name of its file."""
    return {
        _file_name(result, plot): drawn(plot)
        for found in re.finditer(_MARK, text, flags=re.DOTALL)
        for result in [_full_result(found["name"], results)]
        for plot in (plots_of(result) if result else [])
    }


def plots_of(result: Result) -> list[Plot]:
    """Returns the plots that a result brings along in its `data`."""
    return [Plot.model_validate(plot) for plot in result.data.get("plots", [])]


def _file_name(result: Result, plot: Plot) -> str:
    return f"{result.name}_{plot.name}.svg"


def _full_result(name: str, results: Path) -> Result | None:
    if not (results / f"{name}.json").exists():
        return None
    result = read_result(name, results)
    if result.data.get("quick"):
        raise ValueError(
            f"results/{result.name}.json is of a `--quick` run. Run "
            f"`python -m benchmarks.{result.name}` without it first."
        )
    return result


def main() -> None:
    """Writes the page and its plots."""
    text = with_tables(PAGE.read_text())
    PAGE.write_text(text)
    PLOTS.mkdir(exist_ok=True)
    for name, svg in drawn_plots(text).items():
        (PLOTS / name).write_text(svg)


if __name__ == "__main__":
    main()
