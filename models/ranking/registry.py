"""Which class is the ranker that a config names?"""

import importlib

from models.feature_space import FeatureSpace
from models.ranking.ranker import Ranker, Tensors
from models.ranking.settings import Model, RankingSettings

# Module and class; imported when asked for, as no run needs more than one. The model's
# settings are the section of the same name as the model.
_PLACES = {
    Model.DEEPFM: ("models.ranking.deepfm", "DeepFM"),
    Model.FM: ("models.ranking.fm", "FM"),
    Model.DNN: ("models.ranking.dnn", "DNN"),
    Model.WIDE_DEEP: ("models.ranking.wide_deep", "WideDeep"),
    Model.SVDPP: ("models.ranking.svdpp", "SVDpp"),
    Model.HPMN: ("models.ranking.hpmn", "HPMN"),
    Model.GRU4REC: ("models.ranking.gru4rec", "GRU4Rec"),
    Model.LSTM: ("models.ranking.lstm", "LSTM"),
    Model.CASER: ("models.ranking.caser", "Caser"),
    Model.DIEN: ("models.ranking.dien", "DIEN"),
    Model.RUM: ("models.ranking.rum", "RUM"),
    Model.SHAN: ("models.ranking.shan", "SHAN"),
    Model.BAYESIAN_FM: ("models.bandit.bayesian_fm", "BayesianFM"),
}


def ranker_class(settings: RankingSettings) -> type[Ranker]:
    """Returns the class of the model that `settings.model` names."""
    module, name = _PLACES[settings.model]
    return getattr(importlib.import_module(module), name)


def make_ranker(
    space: FeatureSpace, settings: RankingSettings, items: Tensors | None = None
) -> Ranker:
    """Returns an untrained model of the kind that `settings.model` names.

    Args:
        space: the transformed features.
        settings: of the ranking model; its section of the model's name sizes it.
        items: the features of the items that histories hold, as
            `training_items.distinct_items` collects them; None reads histories by their
            ids alone.
    """
    section = getattr(settings, settings.model.value)
    return ranker_class(settings)(space, section, items)
