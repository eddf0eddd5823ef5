"""What does one call of the fused model save over retrieving and ranking by two?

The same release and server, asked over gRPC in two ways by a client in a process of its own
(`serving_two_calls`): `recommender` once; or `retrieval`, then `ranking` on tf.Examples of the
candidates that it returned, joined with the user's, then the best ten of them. They take turns at
concurrency 1, 8 and 32 and with 1 or 16 users a request. The models are the same, and so are the
scores of an item that both find (`max_score_difference`); but `retrieval` gives 100 candidates, the
user's past among them, while the one call leaves that out and ranks what the release's
`num_candidates` says (200 here): the comparison leans towards the two calls.

`throughput_ratio` is of users per second by the clock, the median over the six settings and
the rounds; the client shares the machine with the server, as it makes the examples, which is
a cost of the two calls. `cpu_ratio` is of users per second of the server's CPU alone.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.child import Child
from benchmarks.command_line import finish, say
from benchmarks.measure import cpu_seconds_of
from benchmarks.result import Result, medians, spreads, versions_of
from benchmarks.served_root import (
    asked_by,
    predict_message,
    root_parser,
    served_root,
    stacked,
    write_messages,
)
from serving.release_layout import PARTS
from serving.release_tables import latest_release
from serving.server_process import ServerProcess

CONCURRENCY, BATCHES = (1, 8, 32), (1, 16)
MODELS = {"one": "recommender", "two": "retrieval"}
USERS = 160


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is asked."""

    rounds: int
    users: int  # of one way, at one setting, in a round


FULL = Scale(rounds=3, users=640)
QUICK = Scale(rounds=1, users=64)


def user_examples(rows: list[dict]) -> list[bytes]:
    """Returns each user's own features as a tf.Example; what is missing is left out."""
    import tensorflow as tf

    found = []
    for row in rows:
        features = {}
        for name, array in row.items():
            values = array.reshape(-1).tolist()
            if array.dtype == object:
                texts = [str(value).encode() for value in values if value != ""]
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
            else:
                values = [value for value in values if value == value]
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            features[name] = feature
        kept = {
            name: feature
            for name, feature in features.items()
            if feature.bytes_list.value or feature.float_list.value
        }
        example = tf.train.Example(features=tf.train.Features(feature=kept))
        found.append(example.SerializeToString())
    return found


def item_examples(directory: Path) -> list[bytes]:
    """Returns id and example of each item of a release, in turns."""
    import tensorflow as tf

    file = directory / PARTS / "candidates" / "items.tfrecord.gz"
    found = []
    for record in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator():
        example = tf.train.Example.FromString(record)
        found += [example.features.feature["item_id"].bytes_list.value[0], record]
    return found


def write_all(target: str, source: Path, folder: Path) -> None:
    """Writes what the client sends."""
    release = latest_release(source)
    rows = {
        way: asked_by(target, model, "serving_default", release, USERS)
        for way, model in MODELS.items()
    }
    for way, model in MODELS.items():
        for batch in BATCHES:
            messages = [
                predict_message(
                    model, "serving_default", stacked(rows[way][start : start + batch])
                )
                for start in range(0, USERS, batch)
            ]
            write_messages(folder / f"{way}_{batch}", messages)
    write_messages(folder / "users", user_examples(rows["one"]))
    write_messages(folder / "items", item_examples(release.directory))


class Client(Child):
    """The client as a process of its own."""

    def __init__(self, target: str, folder: Path):
        super().__init__("serving_two_calls", target, folder)

    def ask(self, way: str, batch: int, concurrent: int, requests: int) -> list[float]:
        """Returns the ms of each request."""
        self.tell(way, batch, concurrent, requests)
        return json.loads(self.hear())


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one way took at one setting."""

    users_per_s: float
    users_per_cpu_s: float
    p50_ms: float
    p99_ms: float


def turn(
    server: ServerProcess,
    client: Client,
    way: str,
    batch: int,
    concurrent: int,
    users: int,
) -> Turn:
    """Asks one way."""
    requests = max(users // batch, 2 * concurrent)
    begin, cpu = time.monotonic(), cpu_seconds_of(server.pid)
    taken = sorted(client.ask(way, batch, concurrent, requests))
    answered = requests * batch
    return Turn(
        answered / (time.monotonic() - begin),
        answered / (cpu_seconds_of(server.pid) - cpu),
        statistics.median(taken),
        taken[min(int(0.99 * len(taken)), len(taken) - 1)],
    )


def measured(source: Path, folder: Path, scale: Scale) -> dict[str, list[float]]:
    """Returns each figure's values."""
    seen: dict[str, list[float]] = {}
    with ServerProcess(source) as server:
        write_all(server.target, source, folder)
        client = Client(server.target, folder)
        seen["max_score_difference"] = client.ask("same", 1, 1, USERS)
        for way in MODELS:
            for batch in BATCHES:
                turn(server, client, way, batch, 8, 32)  # warms up
        for number in range(scale.rounds):
            say(f"  round {number + 1} of {scale.rounds}")
            for batch in BATCHES:
                for concurrent in CONCURRENCY:
                    place = f"c{concurrent}_b{batch}"
                    one, two = (
                        turn(server, client, way, batch, concurrent, scale.users)
                        for way in ("one", "two")
                    )
                    found = {
                        "throughput_ratio": one.users_per_s / two.users_per_s,
                        "cpu_ratio": one.users_per_cpu_s / two.users_per_cpu_s,
                        f"throughput_ratio_{place}": one.users_per_s / two.users_per_s,
                        f"users_per_s_{place}": one.users_per_s,
                        f"p50_ms_{place}": one.p50_ms,
                        f"p99_ms_{place}": one.p99_ms,
                        f"p50_ms_two_{place}": two.p50_ms,
                        f"p99_ms_two_{place}": two.p99_ms,
                    }
                    for name, value in found.items():
                        seen.setdefault(name, []).append(value)
        client.close()
    return seen


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = root_parser("serving_one_call", __doc__).parse_args()
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    source = served_root(arguments.root) / "serving"
    with tempfile.TemporaryDirectory() as folder:
        seen = measured(source, Path(folder), scale)
    apart = seen.pop("max_score_difference")
    figures = {**medians(seen), "max_score_difference": max(apart)}
    for name in ("p50_ms", "p99_ms"):
        figures[name] = figures[f"{name}_c1_b1"]
    result = Result(
        name="serving_one_call",
        figures=figures,
        intervals=spreads(seen),
        versions=versions_of("tensorflow", "grpcio", "numpy"),
        data={**dataclasses.asdict(scale), "quick": arguments.quick},
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
