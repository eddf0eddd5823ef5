import pytest

from models.ranking.ranker import Ranker
from models.ranking.registry import make_ranker
from models.ranking.settings import Model, RankingSettings
from tests.models import ranker_contract


@pytest.mark.parametrize("model", Model)
def test_make_ranker_gives_the_model_that_is_named(model):
    settings = RankingSettings(model=model)
    ranker = make_ranker(ranker_contract.space(), settings, ranker_contract.items())
    assert isinstance(ranker, Ranker)
    assert type(ranker).__name__.lower() == model.value.replace("_", "")


def test_make_ranker_sizes_the_model_by_the_section_of_its_name():
    settings = RankingSettings.model_validate(
        {"model": "fm", "fm": {"embedding_dim": 5}, "deepfm": {"embedding_dim": 3}}
    )
    ranker = make_ranker(ranker_contract.space(), settings)
    assert ranker.terms.dim == 5 + 1  # w beside V


def test_ranking_settings_refuse_an_unknown_model():
    with pytest.raises(ValueError, match="deepfm"):
        RankingSettings(model="depfm")
