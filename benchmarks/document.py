"""Puts the tables of results into docs/benchmarks.md: `python -m benchmarks.document`."""

import re
from pathlib import Path

from benchmarks.result import RESULTS, markdown_table, read_result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def with_tables(text: str, results: Path = RESULTS) -> str:
    """Returns the page with each table made anew from its result's file.

    A table stands between `<!-- results: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: if a result is of a quick run, which is no measurement to show.
    """

    def table(found: re.Match[str]) -> str:
        result = read_result(found["name"], results)
        if result.data.get("quick"):
            raise ValueError(
                f"results/{result.name}.json is of a `--quick` run. Run "
                f"`python -m benchmarks.{result.name}` without it first."
            )
        return f"{found['begin']}\n\n{markdown_table(result)}\n{found['end']}"

    pattern = r"(?P<begin><!-- results: (?P<name>\w+) -->).*?(?P<end><!-- end -->)"
    return re.sub(pattern, table, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
