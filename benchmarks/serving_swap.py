"""Does a new version under load cost a request, time or memory?

A server of its own process serves the four models of a MovieLens 100K release and is asked for
one user at a time at a steady rate (`serving_traffic`: each request counts from when it was due).
Stretches without and with swaps alternate. A swap is what a push is to a server: new versions
of all models, renamed into place; the server finds, loads and warms them, then frees the old
ones. A stretch has a swap every three seconds, or as soon as the one before is done.

`p99_ratio_during_swaps` is the median over the rounds, each stretch with swaps beside the one
without before it. `rss_growth` is the server's memory after the last swap beside that after the
second.
"""

import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from benchmarks.command_line import finish, say
from benchmarks.result import Result, medians, spreads, versions_of
from benchmarks.served_root import (
    asked_by,
    predict_message,
    root_parser,
    served_root,
    write_messages,
)
from benchmarks.serving_traffic import Answers, Traffic
from serving.release_layout import MODELS
from serving.release_tables import latest_release
from serving.server_process import ServerProcess

MODEL, SIGNATURE = "recommender", "serving_default"
USERS = 200
SWAP_EVERY_S = 3.0
_AVAILABLE = 30


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is asked, and how often versions change."""

    rounds: int
    swaps: int  # of a round
    rate: float  # requests per second


FULL = Scale(rounds=4, swaps=5, rate=50.0)
QUICK = Scale(rounds=2, swaps=3, rate=50.0)


class SwappedRoot:
    """A serving root of its own whose release can be pushed again and again.

    Args:
        source: serving root with a release; only read.
        folder: of the new root; has no `models.config`, so each model's latest serves.
    """

    def __init__(self, source: Path, folder: Path):
        release = latest_release(source)
        self.root = folder
        self.version = release.version
        self._source, self._first = source, release.version
        for model in MODELS:
            self._put(model)

    def push(self) -> int:
        """Puts the next version beside the present one, whole; returns its number."""
        self.version += 1
        for model in MODELS:
            self._put(model)
        for model in MODELS:
            for old in (self.root / model).iterdir():
                if old.name != str(self.version):
                    self._remove(old)
        return self.version

    def _put(self, model: str) -> None:
        staged = self.root / f".{model}"
        shutil.copytree(self._source / model / str(self._first), staged)
        (self.root / model).mkdir(exist_ok=True)
        staged.rename(self.root / model / str(self.version))

    def _remove(self, version: Path) -> None:
        # As a push does: what is served stays readable until it is out of the way.
        hidden = self.root / f".old-{version.parent.name}"
        version.rename(hidden)
        shutil.rmtree(hidden)


class Watch:
    """Sees which versions a server has."""

    def __init__(self, target: str):
        self._stub = model_service_pb2_grpc.ModelServiceStub(
            grpc.insecure_channel(target)
        )

    def wait_for(
        self, models: Sequence[str], version: int, most_s: float = 120
    ) -> None:
        """Waits until each model has this version and no other.

        Raises:
            TimeoutError: if that takes too long.
        """
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            if all(self._versions(model) == {version} for model in models):
                return
            time.sleep(0.05)
        seen = {model: self._versions(model) for model in models}
        raise TimeoutError(f"version {version} should serve by now. Seen: {seen}")

    def _versions(self, model: str) -> set[int]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        status = self._stub.GetModelStatus(request, timeout=30).model_version_status
        return {one.version for one in status if one.state == _AVAILABLE}


def resident_mib(pid: int) -> float:
    """Returns the memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@dataclasses.dataclass
class Seen:
    """What the rounds showed."""

    steady: list[Answers] = dataclasses.field(default_factory=list)
    swapping: list[Answers] = dataclasses.field(default_factory=list)
    swap_s: list[float] = dataclasses.field(default_factory=list)
    rss_mib: list[float] = dataclasses.field(default_factory=list)


def figures_of(seen: Seen) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns figures and their intervals over the rounds."""
    found: dict[str, list[float]] = {}
    for share in (0.5, 0.99):
        name = f"p{100 * share:.0f}"
        steady = [answers.percentile(share) for answers in seen.steady]
        swapping = [answers.percentile(share) for answers in seen.swapping]
        found[f"{name}_ms_steady"], found[f"{name}_ms_swapping"] = steady, swapping
        found[f"{name}_ratio_during_swaps"] = [
            busy / quiet for busy, quiet in zip(swapping, steady, strict=True)
        ]
    found["swap_s"] = seen.swap_s
    every = [*seen.steady, *seen.swapping]
    counted = {
        "failed_requests": float(sum(answers.failures for answers in every)),
        "requests": float(sum(len(each.ms) + each.failures for each in every)),
        "swaps": float(len(seen.swap_s)),
        "rss_growth": seen.rss_mib[-1] / seen.rss_mib[1],
        "rss_mib_after_second": seen.rss_mib[1],
        "rss_mib_after_last": seen.rss_mib[-1],
        "longest_ms_swapping": max(max(each.ms) for each in seen.swapping),
        "longest_ms_steady": max(max(each.ms) for each in seen.steady),
    }
    return {**counted, **medians(found)}, spreads(found)


def measured(source: Path, folder: Path, scale: Scale) -> Seen:
    """Serves, asks and swaps."""
    root = SwappedRoot(source, folder / "serving")
    seen = Seen()
    with ServerProcess(root.root) as server:
        watch = Watch(server.target)
        rows = asked_by(server.target, MODEL, SIGNATURE, latest_release(source), USERS)
        messages = [predict_message(MODEL, SIGNATURE, row) for row in rows]
        file = write_messages(folder / "messages", messages)
        seconds = scale.swaps * SWAP_EVERY_S
        with Traffic(server.target, file, scale.rate) as traffic:
            traffic.over(3.0)  # warms client and server up
            for number in range(scale.rounds):
                say(f"  round {number + 1} of {scale.rounds}")
                seen.steady.append(traffic.over(seconds))
                traffic.begin()
                for _ in range(scale.swaps):
                    begin = time.monotonic()
                    watch.wait_for(MODELS, root.push())
                    seen.swap_s.append(time.monotonic() - begin)
                    time.sleep(max(0.0, SWAP_EVERY_S - seen.swap_s[-1]))
                    seen.rss_mib.append(resident_mib(server.pid))
                seen.swapping.append(traffic.end())
    return seen


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = root_parser("serving_swap", __doc__).parse_args()
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    source = served_root(arguments.root) / "serving"
    with tempfile.TemporaryDirectory() as folder:
        seen = measured(source, Path(folder), scale)
    figures, intervals = figures_of(seen)
    result = Result(
        name="serving_swap",
        figures=figures,
        intervals=intervals,
        versions=versions_of("tensorflow", "grpcio", "numpy"),
        data={
            **dataclasses.asdict(scale),
            "quick": arguments.quick,
            "failed": [dict(each.failed) for each in (*seen.steady, *seen.swapping)],
            "plots": [
                {
                    "name": "memory",
                    "title": "Memory of the server after each swap",
                    "x_label": "swaps",
                    "y_label": "MiB",
                    "series": {"resident": list(enumerate(seen.rss_mib, start=1))},
                }
            ],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
