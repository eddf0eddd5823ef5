"""Settings of the ranking model: the `ranking` section of a config."""

import enum

from pydantic import BaseModel, ConfigDict, Field

from models.ranking.deepfm_settings import DeepFMSettings
from models.ranking.dnn_settings import DNNSettings
from models.ranking.fm_settings import FMSettings
from models.ranking.hpmn_settings import HPMNSettings


class Model(enum.Enum):
    """The rankers; each has a section of its name beside `model`."""

    DEEPFM = "deepfm"
    FM = "fm"
    DNN = "dnn"
    HPMN = "hpmn"


class RankingSettings(BaseModel):
    """Which ranker is trained, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(
        default=Model.DEEPFM,
        description="Which ranker is trained; the section of its name sizes it.",
    )
    deepfm: DeepFMSettings = Field(
        default=DeepFMSettings(), description="Sizes and regularisation of DeepFM."
    )
    fm: FMSettings = Field(
        default=FMSettings(), description="Size and regularisation of FM."
    )
    dnn: DNNSettings = Field(
        default=DNNSettings(),
        description="Sizes and regularisation of the network over summed histories.",
    )
    hpmn: HPMNSettings = Field(
        default=HPMNSettings(),
        description="Sizes and regularisation of HPMN, which remembers whole lifetimes.",
    )
    batch_size: int = Field(default=1024, ge=1, description="Rows a step.")
    max_epochs: int = Field(default=20, ge=1, description="Passes at most.")
    patience: int = Field(
        default=2,
        ge=0,
        description="Epochs without a better log loss on the eval split before stopping.",
    )
    learning_rate: float = Field(default=0.001, gt=0, description="Adam's step size.")
    seed: int = Field(
        default=7, ge=0, description="Seeds initial weights and shuffling."
    )
