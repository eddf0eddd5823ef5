"""Ten million events lost 734,493 between two stages: the runner's timer dropped them."""

import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane

from components.beam_data_plane import send_whole_buffers

SECONDS = 30


@pytest.fixture(autouse=True)
def beams_own_limit(monkeypatch):
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 1000)


def runners_stream():
    """Returns a stream as the runner opens it for a worker, and what it sends."""
    servicer = data_plane.BeamFnDataServicer(worker_handlers.DATA_BUFFER_TIME_LIMIT_MS)
    channel = servicer.get_conn_by_worker_id("worker")
    sent = []
    channel._enqueue_to_send = lambda element: sent.append(element.data)
    return channel, channel.output_stream("bundle", "read"), sent


def write_during_flush(stream, channel, sent):
    """Writes `late` while a flush by another thread is sending `early`."""
    sending, written = threading.Event(), threading.Event()

    def enqueue(element):
        sent.append(element.data)
        sending.set()
        assert written.wait(SECONDS)

    channel._enqueue_to_send = enqueue
    stream.write(b"early")
    flusher = threading.Thread(target=stream.flush)
    flusher.start()
    assert sending.wait(SECONDS)
    stream.write(b"late")
    written.set()
    flusher.join(SECONDS)
    stream.close()
    return b"".join(sent)


def test_beam_still_drops_what_is_written_during_a_flush():
    """If this fails, Beam is mended, and `send_whole_buffers` can go."""
    channel, stream, sent = runners_stream()
    assert isinstance(stream, data_plane.TimeBasedBufferingClosableOutputStream)
    assert write_during_flush(stream, channel, sent) == b"early"


def test_no_timer_flushes_a_buffer_that_is_being_written():
    send_whole_buffers()
    _, stream, sent = runners_stream()
    assert not isinstance(stream, data_plane.TimeBasedBufferingClosableOutputStream)
    threads = threading.active_count()
    for _ in range(3):
        stream.write(b"early")
        stream.maybe_flush()
        stream.write(b"late")
    stream.close()
    assert threading.active_count() == threads
    assert b"".join(sent) == b"earlylate" * 3


@pytest.mark.component
@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_runner_takes_the_limit_when_it_starts(mode, monkeypatch):
    """Else setting it would change nothing."""
    limits = []
    made = data_plane.BeamFnDataServicer

    def servicer(limit=0):
        limits.append(limit)
        return made(limit)

    monkeypatch.setattr(data_plane, "BeamFnDataServicer", servicer)
    send_whole_buffers()
    options = PipelineOptions(
        [
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            f"--direct_running_mode={mode}",
            "--direct_num_workers=2",
        ]
    )
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create([1, 2, 3])
    assert limits and not any(limits)
