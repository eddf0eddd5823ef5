"""A mend for Beam: its direct runner loses data between processes on a busy machine."""

from apache_beam.runners.portability.fn_api_runner import worker_handlers


def send_whole_buffers() -> None:
    """Stops this process's direct runner from sending half-written buffers by a timer.

    With `direct_running_mode` `multi_processing` or `multi_threading`, the runner writes
    the input of a stage into a buffer while a thread of its own flushes that buffer once
    a second. The flush sends the buffer's content, then empties it, and holds no lock
    against the writer: what is written in between is dropped, without an error. It takes
    an input that needs longer than a second to write, some 200 MB on a busy machine.

    A time limit of 0 is Beam's own way to do without the timer; buffers are then sent
    when they are full and when they are closed. Workers have it so already. Call it
    before a pipeline runs; calling it again changes nothing. Other runners have data
    planes of their own, which this does not touch.

    Seen with Apache Beam 2.77, `TimeBasedBufferingClosableOutputStream` in
    runners/worker/data_plane.py; a test fails once Beam has mended it.
    """
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
