"""The embedded model server: TF Serving's gRPC and REST API for a laptop, a test, a gate.

As a library, `with ModelServer(root, port=0) as server: ...`; as a program,
`python -m serving.server --root ROOT --port 8500` (or `tandem serve`). Production runs
TensorFlow Serving itself on the same folder.
"""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from serving.errors import ServerStartError
from serving.model_config import Sampling, read_served_models
from serving.release_tables import ReleaseTables

_LOG = logging.getLogger(__name__)

DEFAULT_PORT = 8500  # TF Serving's


@dataclasses.dataclass(frozen=True)
class HttpFront:
    """The HTTP API in front of the models; see `http_api`.

    Attributes:
        port: 0 takes a free one.
        make_service: returns what answers, given the server's `calls.Calls`.
        tables: returns those of the newest release.
        on_poll: is called before the first request and after each look for new
            versions, on a thread that may block.
    """

    port: int
    make_service: Callable[[Any], Any]
    tables: Callable[[], ReleaseTables]
    on_poll: Callable[[], None] = lambda: None


class ModelServer:
    """Serves the models of a serving root until stopped.

    Args:
        root: serving root in TF Serving's layout (see `model_config`).
        port: gRPC port; 0 takes a free one, see the attribute `port` after `start`.
        rest_port: of the REST API; 0 takes a free one, as with `port`; None has no REST.
        host: address to listen on; "0.0.0.0" for every interface.
        poll_interval_s: seconds between two looks for new versions; 0 never looks.
        max_message_mib: largest request or response.
        max_concurrent_requests: further ones are refused at once.
        num_threads: requests computed at the same time; 0 takes two per CPU.
        ssl_config_file: of TLS for gRPC, see `tls`; None listens in plain text.
        batching_file: joins requests, see `batching_settings`; None joins none.
        http: the HTTP API in front of the models; None has none.
    """

    def __init__(
        self,
        root: Path | str,
        port: int = DEFAULT_PORT,
        *,
        rest_port: int | None = None,
        host: str = "127.0.0.1",
        poll_interval_s: float = 1.0,
        max_message_mib: int = 64,
        max_concurrent_requests: int = 1024,
        num_threads: int = 0,
        ssl_config_file: Path | None = None,
        batching_file: Path | None = None,
        http: HttpFront | None = None,
    ):
        self.root = Path(root)
        self.host = host
        self.port = port
        self.rest_port = rest_port
        self._ssl_config_file = ssl_config_file
        self._batching_file = batching_file
        self._http = http
        self.http_port = http.port if http else None
        self._poll_interval_s = poll_interval_s
        self._max_message_mib = max_message_mib
        self._max_concurrent_requests = max_concurrent_requests
        self._num_threads = num_threads or 2 * (os.cpu_count() or 1)
        self._stopping = threading.Event()
        self._started = False

    @property
    def target(self) -> str:
        """What a client connects to."""
        return f"{self.host}:{self.port}"

    def start(self) -> Self:
        """Loads and warms every model, then listens; returns once it answers.

        Raises:
            ServerStartError: if no model can be loaded or the port is taken.
        """
        models = read_served_models(self.root)
        from serving.batching_settings import read_batching
        from serving.calls import Calls  # imports TensorFlow: seconds
        from serving.metrics import ServerMetrics, prometheus_path
        from serving.model_store import ModelStore
        from serving.request_log import RequestLog
        from serving.tls import read_credentials

        self._metrics_path = prometheus_path(self.root)
        self._credentials = None
        if self._ssl_config_file:
            self._credentials = read_credentials(self._ssl_config_file)
        batching = read_batching(self._batching_file) if self._batching_file else None
        metrics = ServerMetrics()
        self._store = ModelStore(models, metrics.count_load)
        self._store.refresh()
        if not any(self._store.available_versions().values()):
            reasons = self._store.load_errors().values()
            raise ServerStartError(
                f"no model of `{self.root}` can be served: "
                f"{'; '.join(reasons) or 'no version yet'}"
            )
        if self._http is not None:
            self._http.on_poll()
        self._pool = ThreadPoolExecutor(self._num_threads, "predict")
        self._calls = Calls(self._store, self._pool, metrics, batching)
        self._log = RequestLog(self._sampling)
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(
            target=self._loop.run_forever, name="grpc", daemon=True
        )
        self._loop_thread.start()
        try:
            self._call(self._listen())
        except ServerStartError:
            self._close()
            raise
        self._started = True
        self._poll_thread = threading.Thread(
            target=self._poll, name="poll", daemon=True
        )
        self._poll_thread.start()
        return self

    def stop(self, grace_s: float = 10.0) -> None:
        """Refuses new requests, waits for the running ones, then frees the models.

        Args:
            grace_s: seconds after which running requests are cut off.
        """
        if not self._started:
            return
        self._started = False
        self._stopping.set()
        self._call(self._hang_up(grace_s))
        self._poll_thread.join()
        self._close()

    def serve_forever(self) -> None:
        """Serves until SIGINT or SIGTERM, or until `request_stop`; then stops in order.

        Call it from the main thread, after `start`.
        """
        previous = {
            number: signal.signal(number, lambda *_: self.request_stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._stopping.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.stop()

    def request_stop(self) -> None:
        """Makes `serve_forever` return; callable from any thread or signal handler."""
        self._stopping.set()

    def models(self) -> dict[str, list[int]]:
        """Returns the versions that answer now, newest first, by model name."""
        return self._store.available_versions()

    def load_errors(self) -> dict[str, str]:
        """Returns why a model cannot be served, by model name."""
        return self._store.load_errors()

    def refresh(self) -> None:
        """Looks for new versions now; returns when they are served."""
        self._store.refresh()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> None:
        from serving.grpc_transport import GrpcTransport, Limits
        from serving.http_api import http_application
        from serving.http_transport import HttpTransport
        from serving.rest_transport import rest_application

        limits = Limits(self._max_message_mib, self._max_concurrent_requests)
        grpc = GrpcTransport(
            self._calls, self._log, self.root, self.target, limits, self._credentials
        )
        self._transports = [grpc]
        if self.rest_port is not None:
            rest = HttpTransport(
                rest_application(
                    self._calls, self._max_message_mib, self._metrics_path
                ),
                self.host,
                self.rest_port,
                self._max_concurrent_requests,
            )
            self._transports.append(rest)
            self.rest_port = rest.port
        if self._http is not None:
            http = HttpTransport(
                http_application(
                    self._http.make_service(self._calls),
                    self._http.tables,
                    self._max_message_mib,
                ),
                self.host,
                self._http.port,
                self._max_concurrent_requests,
            )
            self._transports.append(http)
            self.http_port = http.port
        self.port = grpc.port
        for transport in self._transports:
            await transport.start()

    async def _hang_up(self, grace_s: float) -> None:
        await asyncio.gather(*(each.stop(grace_s) for each in self._transports))

    def _sampling(self, name: str) -> Sampling | None:
        model = self._store.served_model(name)
        return model.sampling if model else None

    def _poll(self) -> None:
        if not self._poll_interval_s:
            return
        while not self._stopping.wait(self._poll_interval_s):
            try:
                self._store.refresh()
                if self._http is not None:
                    self._http.on_poll()
            except OSError as error:  # a folder that vanished while it was read
                _LOG.warning("looking for new versions failed: %s", error)

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()
        self._loop.close()
        self._pool.shutdown()
        self._log.close()
        self._store.close()


def main(argv: list[str] | None = None) -> int:
    """Serves a root as a program.

    Prints one JSON line when it is ready: `{"target", "port", "rest_port", "models",
    "errors"}`.

    Returns:
        Exit code: 0 after a stop, 1 if it could not start, 2 for bad arguments.
    """
    parser = argparse.ArgumentParser(description="Serve a release over gRPC and REST.")
    parser.add_argument("--root", required=True, type=Path, help="serving root")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: a free one")
    parser.add_argument("--rest-port", type=int, help="0: a free one; none: no REST")
    parser.add_argument("--ssl-config-file", type=Path, help="SSLConfig; none: no TLS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--batching-file", type=Path, help="BatchingParameters")
    parser.add_argument("--poll-interval-s", type=float, default=1.0)
    parser.add_argument(
        "--stop-with-stdin",
        action="store_true",
        help="stop when standard input ends, that is, when the starting process does",
    )
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    server = ModelServer(
        args.root,
        args.port,
        rest_port=args.rest_port,
        host=args.host,
        poll_interval_s=args.poll_interval_s,
        ssl_config_file=args.ssl_config_file,
        batching_file=args.batching_file,
    )
    if args.stop_with_stdin:
        threading.Thread(target=_exit_with_stdin, args=(server,), daemon=True).start()
    try:
        server.start()
    except ServerStartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ready = {
        "target": server.target,
        "port": server.port,
        "rest_port": server.rest_port,
        "models": server.models(),
        "errors": server.load_errors(),
    }
    print(json.dumps(ready), flush=True)
    server.serve_forever()
    return 0


def _exit_with_stdin(server: ModelServer) -> None:
    """Ends the process with its parent, whatever ended that one."""
    # Not through sys.stdin: a thread that holds its lock makes the interpreter's own
    # end a crash.
    while os.read(0, 1024):
        pass
    server.request_stop()
    # A parent that is gone cannot wait for a stuck load or request: do not outlive it.
    last_resort = threading.Timer(15.0, os._exit, args=(1,))
    last_resort.daemon = True
    last_resort.start()


if __name__ == "__main__":
    sys.exit(main())
