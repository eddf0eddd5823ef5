"""What did the latest ingestion of a root leave, and with which settings did it read?"""

import dataclasses
from pathlib import Path

from pydantic import ValidationError

from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings
from pipeline.layout import Layout
from pipeline.run_state import read_latest
from schemas.features import FeatureCatalog

_STAGE = "IngestEvents"


@dataclasses.dataclass(frozen=True)
class LastIngestion:
    """The latest ingestion of a root.

    Attributes:
        config_name: of the config it ran with.
        dead_letters: folder of its `DeadLetters` artifact.
        settings: what it read, and how.
        catalog: the features declared then.
    """

    config_name: str
    dead_letters: Path
    settings: DataSettings
    catalog: FeatureCatalog


def last_ingestion(layout: Layout, config_name: str | None = None) -> LastIngestion:
    """Returns the latest ingestion of a root, or of one config in it.

    Raises:
        IngestionError: if there is none, its dead letters are gone, or it was made by a
            version of Tandem with other settings.
    """
    stage = None
    if layout.metadata.is_file():
        stage = read_latest(str(layout.metadata), _STAGE, config_name)
    which = f" of `{config_name}`" if config_name else ""
    if stage is None:
        raise IngestionError(
            f"no ingestion{which} in {layout.root}. Make one with `tandem run --root "
            f"{layout.root}`."
        )
    folder = Path(stage.run.outputs["dead_letters"])
    if not folder.is_dir():
        raise IngestionError(
            f"the dead letters of the latest ingestion are gone: no folder {folder}. Run "
            "`tandem run` with another `name` in the config, or in another root."
        )
    try:
        settings = DataSettings.model_validate_json(stage.parameters["settings_json"])
        catalog = FeatureCatalog.model_validate_json(stage.parameters["catalog_json"])
    except (KeyError, ValidationError) as error:
        raise IngestionError(
            "the latest ingestion was made by another version of Tandem, whose settings "
            f"this one does not read ({type(error).__name__}). Call `tandem run` again."
        ) from error
    return LastIngestion(stage.pipeline, folder, settings, catalog)
