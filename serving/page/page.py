"""Renders the page: plain HTML, no script, every word from a log escaped."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class NamedItem:
    """One item of a slate, with a name to read."""

    item_id: str
    name: str
    score: float
    propensity: float


@dataclasses.dataclass(frozen=True)
class PageFacts:
    """What the page shows.

    Attributes:
        release: version of the models.
        users: some that are known, to choose from.
        policy: what chooses the slates.
        user_id: whose recommendations; "" for none yet.
        k: how many items are asked for.
        seed: that was asked for; None is a new draw each time.
        is_known: whether anything is known of the user.
        history: names of what the model reads of the past, the latest first.
        slate: what would be shown; None where nobody was asked for.
        timings: ms of each stage.
        error: why there is no answer.
    """

    release: int
    users: Sequence[str]
    policy: str = ""
    user_id: str = ""
    k: int = 10
    seed: int | None = None
    is_known: bool = False
    history: Sequence[str] = ()
    slate: Sequence[NamedItem] | None = None
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""


def render(facts: PageFacts) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    css = (_FOLDER / "page.css").read_text()
    template = environment.get_template("page.html.jinja")
    # Not `asdict`: the template reads the items' attributes.
    return template.render(css=css, **vars(facts))
