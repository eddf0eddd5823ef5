"""Settings of a push; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field


class PushSettings(BaseModel):
    """How releases are kept and announced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_releases: int = Field(
        default=3, ge=1, description="Newest releases kept; older ones are removed."
    )
    base_path: str = Field(
        default="",
        description="Where the serving root is mounted for the model server, as "
        "models.config names it. Empty: where it is on this machine.",
    )
    max_batch_size: int = Field(
        default=32, ge=1, description="Rows TF Serving joins into one call of a model."
    )
    batch_timeout_micros: int = Field(
        default=1000, ge=0, description="Microseconds it waits for a batch to fill."
    )
