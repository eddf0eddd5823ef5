"""What several tests of the models need, made once a session."""

import subprocess
import sys

import pytest

# Once TensorFlow Transform has analysed anything, its process crashes in the garbage
# collection at its end. So it gets a process of its own, which ends without that.
ANALYSE = """
import os
import sys
from pathlib import Path
import models
from tests.models import transform_world
transform_world.analyse(transform_world.records(), Path(sys.argv[1]))
os._exit(0)
"""


@pytest.fixture(scope="session")
def transform_uri(tmp_path_factory):
    """Returns the folder of the transform analysed over `transform_world`; seconds."""
    path = str(tmp_path_factory.mktemp("transform_graph"))
    process = subprocess.run(
        [sys.executable, "-c", ANALYSE, path], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return path
