"""Settings of the ranking model: the `ranking` section of a config."""

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.ranking.bayesian_fm_settings import BayesianFMSettings
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
from models.ranking.svdpp_settings import SVDppSettings
from models.ranking.wide_deep_settings import WideDeepSettings
from models.retrieval.settings import Optimizer


class Model(enum.Enum):
    """The rankers; each has a section of its name beside `model`."""

    DEEPFM = "deepfm"
    FM = "fm"
    DNN = "dnn"
    WIDE_DEEP = "wide_deep"
    SVDPP = "svdpp"
    HPMN = "hpmn"
    GRU4REC = "gru4rec"
    LSTM = "lstm"
    CASER = "caser"
    DIEN = "dien"
    RUM = "rum"
    SHAN = "shan"
    BAYESIAN_FM = "bayesian_fm"


class Target(enum.Enum):
    """What the logit's probability is fitted to."""

    LABEL = "label"
    REWARD = "reward"  # in [0, 1]


class Schedule(enum.Enum):
    """How the learning rate goes with the steps."""

    CONSTANT = "constant"
    COSINE = "cosine"  # falls to 0 at the end of `max_epochs`
    WARMUP = "warmup"  # rises from 0 over `warmup_steps`, then stays


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
    wide_deep: WideDeepSettings = Field(
        default=WideDeepSettings(),
        description="Crosses and sizes of Wide & Deep, and its two optimizers.",
    )
    svdpp: SVDppSettings = Field(
        default=SVDppSettings(), description="Size and regularisation of SVD++."
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
    bayesian_fm: BayesianFMSettings = Field(
        default=BayesianFMSettings(),
        description="Prior and updates of the Bayesian FM, which learns in one pass.",
    )
    batch_size: int = Field(default=1024, ge=1, description="Rows a step.")
    max_epochs: int = Field(default=20, ge=1, description="Passes at most.")
    patience: int = Field(
        default=2,
        ge=0,
        description="Epochs without a better log loss on the eval split before stopping.",
    )
    learning_rate: float = Field(
        default=0.001,
        gt=0,
        description="AdamW's step size. `wide_deep` has optimizers and step sizes of its "
        "own.",
    )
    optimizer: Optimizer = Field(
        default=Optimizer.SPARSE_ADAMW,
        description="`sparse_adamw` leaves the rows of a table alone that a batch does "
        "not hold, so that a step costs the same whatever the vocabulary; `adamw` moves "
        "every row at every step.",
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="AdamW's decay of every weight, a step."
    )
    averaged_epochs: float = Field(
        default=0.5,
        ge=0,
        description="Time constant, in epochs, of the moving average that takes the "
        "place of the weights after each epoch; 0 keeps the weights of the last step.",
    )
    schedule: Schedule = Field(
        default=Schedule.CONSTANT,
        description="How step sizes go: `cosine` falls to 0 at `max_epochs`, `warmup` "
        "rises over `warmup_steps` and stays.",
    )
    warmup_steps: int = Field(
        default=500, ge=1, description="Steps of `schedule: warmup`."
    )
    target: Target = Field(
        default=Target.LABEL,
        description="What is predicted: the label, or the reward, which must then be in "
        "[0, 1].",
    )
    positive_weight: float = Field(
        default=1.0,
        gt=0,
        description="How often a positive counts in the loss. Predictions stay those of "
        "the log's own share of positives.",
    )
    position_bias: bool = Field(
        default=False,
        description="Whether the position in the log explains a part of the labels in "
        "training. At serving, every candidate stands at an average one.",
    )
    position_buckets: int = Field(
        default=64,
        ge=1,
        description="Positions with a bias of their own; later ones share the last.",
    )
    history_content: bool = Field(
        default=True,
        description="Whether a history's item is read with its features, as a candidate "
        "is, or by its id alone. DeepFM, FM and SVD++ read ids.",
    )
    mixed_precision: bool = Field(
        default=False,
        description="Computes in 16 bits, bfloat16 without a GPU, where that is faster; "
        "weights, logits and what is served stay at 32.",
    )
    seed: int = Field(
        default=7, ge=0, description="Seeds initial weights and shuffling."
    )

    @model_validator(mode="after")
    def _check_one_pass(self) -> "RankingSettings":
        changed = {
            "position_bias": self.position_bias,
            "positive_weight": self.positive_weight != 1.0,
            "mixed_precision": self.mixed_precision,
        }
        wrong = [f"`{name}`" for name, is_changed in changed.items() if is_changed]
        if self.model is Model.BAYESIAN_FM and wrong:
            raise ValueError(
                f"{', '.join(wrong)} should be left out with `model: bayesian_fm`, whose "
                "update has a rule of its own"
            )
        return self
