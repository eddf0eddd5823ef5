"""Settings of the ranking model: the `ranking` section of a config."""

import enum

from pydantic import BaseModel, ConfigDict, Field

from models.ranking.caser_settings import CaserSettings
from models.ranking.deepfm_settings import DeepFMSettings
from models.ranking.dien_settings import DIENSettings
from models.ranking.dnn_settings import DNNSettings
from models.ranking.fm_settings import FMSettings
from models.ranking.gru4rec_settings import GRU4RecSettings
from models.ranking.hpmn_settings import HPMNSettings
from models.ranking.lstm_settings import LSTMSettings
from models.ranking.rum_settings import RUMSettings
from models.ranking.shan_settings import SHANSettings


class Model(enum.Enum):
    """The rankers; each has a section of its name beside `model`."""

    DEEPFM = "deepfm"
    FM = "fm"
    DNN = "dnn"
    HPMN = "hpmn"
    GRU4REC = "gru4rec"
    LSTM = "lstm"
    CASER = "caser"
    DIEN = "dien"
    RUM = "rum"
    SHAN = "shan"


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
    gru4rec: GRU4RecSettings = Field(
        default=GRU4RecSettings(),
        description="Sizes and regularisation of GRU4Rec as a ranker.",
    )
    lstm: LSTMSettings = Field(
        default=LSTMSettings(),
        description="Sizes and regularisation of the LSTM ranker.",
    )
    caser: CaserSettings = Field(
        default=CaserSettings(),
        description="Sizes and regularisation of Caser as a ranker.",
    )
    dien: DIENSettings = Field(
        default=DIENSettings(), description="Sizes, losses and regularisation of DIEN."
    )
    rum: RUMSettings = Field(
        default=RUMSettings(),
        description="Level, sizes and regularisation of RUM as a ranker.",
    )
    shan: SHANSettings = Field(
        default=SHANSettings(),
        description="Sizes and regularisation of SHAN as a ranker.",
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
