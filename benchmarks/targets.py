"""What each figure of a benchmark should come to."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on one figure; exactly one of the three is given."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None

    def is_met(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        if self.at_most is not None:
            return value <= self.at_most
        return self.above is not None and value > self.above

    def __str__(self) -> str:
        for sign, bound in (
            (">=", self.at_least),
            ("<=", self.at_most),
            (">", self.above),
        ):
            if bound is not None:
                return f"{sign} {bound:,g}"
        return ""


TARGETS: dict[str, dict[str, Target]] = {
    "ingest": {
        "events_per_cpu_s": Target(at_least=25_000),
        "ratio_to_naive_beam": Target(at_least=3),
        "ratio_to_polars": Target(at_least=0.3),
        "growth_10x": Target(at_most=11),
        "peak_rss_gib": Target(at_most=4),
        "wall_ratio_two_workers": Target(above=1),
    },
}
