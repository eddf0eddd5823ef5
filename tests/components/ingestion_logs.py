"""Random logs of the full service: few users, items, requests and moments.

So that ties, baskets, responses at their impression's moment or at the window's very
end, several responses and impressions of a request, duplicate ids, session gaps, caps
around midnight and late events all happen in most logs.
"""

import dataclasses
import itertools
import random

from hypothesis import strategies as st

from tests.components import ingestion_world as world
from tests.components.ingestion_account import DAY_MS, LogFile

MIDNIGHT = 20_001 * DAY_MS  # the logs lie around the night from 2024-10-04 to -05
DAYS = ("2024-10-03", "2024-10-04", "2024-10-05", "2024-10-06")
WINDOW = world.FULL.window_ms
RESPONSES = {
    name: [
        other
        for other, kind in world.FULL_EVENT_TYPES.items()
        if kind.get("answers") == name
    ]
    for name in ("impression", "banner")
}
_DELAYS = (0, world.MINUTE, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, -1)


@dataclasses.dataclass(frozen=True)
class Log:
    """One random log; among equals the files that stand first win."""

    declared: world.Declared
    files: list
    num_shards: int


# One draw makes a record: hypothesis deletes records to find a small log, and takes ten
# times as long where it draws each field.
_SEEDS = st.integers(0, 2**32 - 1)


def records(**fixed):
    return _SEEDS.map(lambda seed: record(random.Random(seed)) | fixed)


def record(chance):
    """Mostly at a whole minute, so that events share one."""
    shift = chance.choice((0, 0, 0, 1, -1))
    return {
        "event_id": f"e{chance.randrange(60)}",
        "timestamp": MIDNIGHT + chance.randrange(-5, 8) * world.MINUTE + shift,
        "event_type": chance.choice(tuple(world.FULL_EVENT_TYPES)),
        "user_id": chance.choice(("u0", "u0", "u1", "u2")),
        "item_id": chance.choice(("i0", "i1", "i2", "i9")),
        "request_id": chance.choice(("r0", "r0", "r0", "r1", None, "")),
        "value": chance.choice((1.0, 4.0)),
        "position": chance.choice((None, 0, 7)),
        "propensity": chance.choice((None, 0.25, 1.0)),
        "device": chance.choice(("tv", "web", None)),
        "hour": chance.choice((0.5, 23.0, None)),
    }


@st.composite
def scenes(draw):
    """An impression and what may answer it."""
    chance = random.Random(draw(_SEEDS))
    kind = chance.choice(tuple(RESPONSES))
    request = chance.choice(("r0", "r0", "r0", "r1", None))
    shown = record(chance) | {"event_type": kind, "request_id": request}
    out = [shown]
    for response in draw(st.lists(records(), min_size=1, max_size=3)):
        delay = chance.choice(_DELAYS)
        same = {key: shown[key] for key in ("user_id", "item_id", "request_id")}
        same["event_type"] = chance.choice((*RESPONSES[kind], kind))
        out.append(response | same | {"timestamp": shown["timestamp"] + delay})
    return out


@st.composite
def baskets(draw):
    """Several events of a user at one moment."""
    first = draw(records())
    same = {key: first[key] for key in ("user_id", "timestamp")}
    return [first, *draw(st.lists(records(**same), min_size=1, max_size=3))]


@st.composite
def event_lists(draw, sizes=(1, 8)):
    """Events with ids of their own, in `sizes` groups that belong together."""
    groups = st.one_of(scenes(), scenes(), baskets(), records().map(lambda r: [r]))
    drawn = draw(st.lists(groups, min_size=sizes[0], max_size=sizes[1]))
    by_id = {}
    for number, record in enumerate(itertools.chain(*drawn)):
        # A drawn number leads, so that the order of ids is not that of making.
        name = f"{record['event_id']}-{number}"
        by_id[name] = record | {"event_id": name}
    return list(by_id.values())


def declarations():
    return st.builds(
        dataclasses.replace,
        st.just(world.FULL),
        session_gap_ms=st.sampled_from((None, world.MINUTE, 3 * world.MINUTE)),
        daily_cap=st.sampled_from((None, None, None, 1, 3, 5)),
        closed_at=st.sampled_from(
            (None, None, MIDNIGHT + 3 * world.MINUTE, MIDNIGHT + 90 * world.MINUTE)
        ),
        max_late_days=st.sampled_from((0, 1)),
    )


@st.composite
def logs(draw, sizes=(1, 8)):
    """A log in files, with copies of events and, often, in dated or numbered spans."""
    events = draw(event_lists(sizes))
    copies = st.tuples(
        st.integers(0, len(events) - 1), st.sampled_from((0, 0, 1, -1)), records()
    )
    for number, shift, other in draw(st.lists(copies, max_size=3)):
        same = {key: events[number][key] for key in ("event_id", "timestamp")}
        same["timestamp"] += shift
        events.append(other | same)
    spans = draw(st.sampled_from((("", ""), ("9", "10", "11"), DAYS, DAYS)))
    files = [LogFile([], span) for span in spans]
    if spans != ("", ""):
        files.append(LogFile([]))  # replayed, the last among equals
    places = draw(st.lists(st.integers(0, 9), min_size=1, max_size=len(events)))
    for event, place in zip(events, itertools.cycle(places), strict=False):
        if spans == DAYS and place > 3:
            place = 1 if event["timestamp"] < MIDNIGHT else 2
        files[place % len(files)].records.append(event)
    if spans == DAYS and draw(st.booleans()):
        del files[3]  # the newest day is then one that the log reaches past
    exported = [file for file in files if file.span or spans == ("", "")]
    if not any(file.records for file in exported):  # an empty export is refused
        exported[0].records.append(files[-1].records.pop())
    return Log(draw(declarations()), files, draw(st.integers(1, 3)))
