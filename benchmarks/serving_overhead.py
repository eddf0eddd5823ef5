"""What does the embedded server cost, on top of the model that it serves?

The model is `recommender` of a MovieLens 100K release, asked through `serving_default`. In
this process its session is called as the server calls it; the server is a process of its
own, asked over gRPC by a third that sends messages made before and reads none. Rounds of
each alternate. Throughput is users answered per second of the measured process's CPU, so
that the client's share of the machine does not count; requests hold 16 users (`b16`), or
one user each, 32 at a time, joined by `batching.config` or not. `p50_overhead_ms` is of
single requests one after the other, by the clock.
"""

import dataclasses
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.child import Child
from benchmarks.command_line import finish, say
from benchmarks.measure import cpu_seconds_of
from benchmarks.result import Result, versions_of
from benchmarks.served_root import (
    HISTORY,
    predict_message,
    query_rows,
    root_parser,
    served_root,
    stacked,
    write_messages,
)
from serving.model_config import read_served_models
from serving.release_tables import ReleaseTables, latest_release
from serving.server_process import ServerProcess

MODEL, SIGNATURE = "recommender", "serving_default"
BATCH, CONCURRENT = 16, 32
BATCHING = (
    f"max_batch_size {{ value: {BATCH} }} batch_timeout_micros {{ value: 2000 }}\n"
    "num_batch_threads { value: 2 } max_enqueued_batches { value: 1000 }\n"
    "pad_variable_length_inputs: true\n"
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is asked in a round, and how many rounds there are."""

    rounds: int
    requests: int  # of 16 users; of one user there are 16 times as many


FULL = Scale(7, 400)
QUICK = Scale(3, 60)


class InProcess:
    """The model's session, without a server."""

    def __init__(self, directory: Path, tables: ReleaseTables):
        from serving.saved_model import SavedModel

        self._model = SavedModel(directory)
        signature = self._model.signatures[SIGNATURE]
        self._single = query_rows(tables, signature, 16 * BATCH, HISTORY)
        self._batches = [
            stacked(self._single[start : start + BATCH])
            for start in range(0, len(self._single), BATCH)
        ]

    def users_per_cpu_s(self, requests: int) -> float:
        """Asks for batches on two threads, as the server computes."""
        begin = time.process_time()

        def work(first: int) -> None:
            for number in range(first, requests, 2):
                batch = self._batches[number % len(self._batches)]
                self._model.run(SIGNATURE, batch)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return requests * BATCH / (time.process_time() - begin)

    def p50_ms(self, requests: int) -> float:
        """Asks for one user after the other."""
        return median_ms(
            lambda n: self._model.run(SIGNATURE, self._single[n % len(self._single)]),
            requests,
        )

    def messages(self) -> tuple[list[bytes], list[bytes]]:
        """Returns the same requests as they go over the wire: batches, and one user's."""
        return (
            [predict_message(MODEL, SIGNATURE, each) for each in self._batches],
            [predict_message(MODEL, SIGNATURE, each) for each in self._single],
        )


def median_ms(call: Callable[[int], object], number: int) -> float:
    """Returns the median time of calls."""
    taken = []
    for place in range(number):
        begin = time.perf_counter()
        call(place)
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken)


class Load(Child):
    """A client process that sends what it is told to.

    Args:
        target: of the server.
        file: holds the messages, one after the other, each behind its length.
    """

    def __init__(self, target: str, file: Path):
        super().__init__("serving_load", target, file)

    def send(self, requests: int, concurrent: int) -> float:
        """Sends requests, and returns their median time in ms once all are answered."""
        self.tell(requests, concurrent)
        return float(self.hear())


def served_per_cpu_s(
    server: ServerProcess, load: Load, requests: int, users: int, concurrent: int
) -> float:
    """Returns users answered per second of the server's CPU."""
    begin = cpu_seconds_of(server.pid)
    load.send(requests, concurrent)
    return requests * users / (cpu_seconds_of(server.pid) - begin)


def measured(root: Path, folder: Path, scale: Scale) -> dict[str, list[float]]:
    """Returns each figure's value in every round."""
    (model,) = [m for m in read_served_models(root) if m.name == MODEL]
    version = model.aspired_versions()[0]
    alone = InProcess(model.base_path / str(version), latest_release(root))
    batches, singles = alone.messages()
    files = {
        "b16": write_messages(folder / "batches", batches),
        "one": write_messages(folder / "singles", singles),
    }
    config = folder / "batching.config"
    config.write_text(BATCHING)
    seen: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        seen.setdefault(name, []).append(value)

    with (
        ServerProcess(root) as plain,
        ServerProcess(root, options=["--batching-file", str(config)]) as batching,
    ):
        loads = {
            (name, server): Load(server.target, file)
            for name, file in files.items()
            for server in (plain, batching)
        }
        for number in range(scale.rounds + 1):
            say(f"  round {number} of {scale.rounds}")
            found = {
                "users_per_cpu_s_in_process_b16": alone.users_per_cpu_s(scale.requests),
                "users_per_cpu_s_b16": served_per_cpu_s(
                    plain, loads["b16", plain], scale.requests, BATCH, 4
                ),
                "users_per_cpu_s_single": served_per_cpu_s(
                    plain, loads["one", plain], scale.requests, 1, CONCURRENT
                ),
                "users_per_cpu_s_joined": served_per_cpu_s(
                    batching, loads["one", batching], 4 * scale.requests, 1, CONCURRENT
                ),
                "p50_ms_in_process": alone.p50_ms(scale.requests),
                "p50_ms": loads["one", plain].send(scale.requests, 1),
            }
            if number:  # the first is to warm up
                for name, value in found.items():
                    note(name, value)
        for load in loads.values():
            load.close()
    limits = seen["users_per_cpu_s_in_process_b16"]
    for name, of in (
        ("throughput_share_of_in_process_b16", "users_per_cpu_s_b16"),
        ("joined_share_of_in_process_b16", "users_per_cpu_s_joined"),
    ):
        shares = zip(seen[of], limits, strict=True)
        seen[name] = [value / limit for value, limit in shares]
    joined = zip(
        seen["users_per_cpu_s_joined"], seen["users_per_cpu_s_single"], strict=True
    )
    seen["gain_of_batching"] = [with_ / without for with_, without in joined]
    waits = zip(seen["p50_ms"], seen["p50_ms_in_process"], strict=True)
    seen["p50_overhead_ms"] = [served - alone for served, alone in waits]
    return seen


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = root_parser("serving_overhead", __doc__).parse_args()
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        root = served_root(arguments.root) / "serving"
        seen = measured(root, Path(folder), scale)
    result = Result(
        name="serving_overhead",
        figures={name: statistics.median(values) for name, values in seen.items()},
        intervals={name: (min(values), max(values)) for name, values in seen.items()},
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "grpcio", "numpy"),
        },
        data={**dataclasses.asdict(scale), "quick": arguments.quick},
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
