"""A flawless toy bundle, saved once for all serving tests."""

import pytest

from tests.serving.toy_release import write_bundle


@pytest.fixture(scope="session")
def good_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("release") / "bundle")
