"""With which values a pipeline runs: one YAML file, checked before anything starts."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.candidate_selection_settings import CandidateSettings
from components.evaluate_retrieval import RetrievalGateSettings
from components.ingestion.settings import DataSettings
from components.policy_gate_settings import PolicyGateSettings
from components.push_settings import PushSettings
from components.ranking_gate import RankingGateSettings
from components.record_release_settings import ExportGateSettings
from components.validate_examples_settings import ValidationSettings
from components.validate_serving import ServingValidationSettings
from models.index_settings import IndexSettings
from models.policy_settings import PolicySettings
from models.ranking.settings import Model, RankingSettings
from models.retrieval.settings import RetrievalSettings
from models.tuning.space import space_problems
from models.tuning_settings import TuningSettings
from schemas.features import FeatureCatalog

CONFIG_DIR = Path(__file__).parent / "configs"
SCHEMA_DIR = Path(__file__).parent.parent / "schemas"


class ConfigError(ValueError):
    """A config that cannot be used; the message names each place and the mend."""


class ServingSettings(BaseModel):
    """What the exported recommender does per request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_candidates: int = Field(
        default=200, ge=1, description="Items retrieved and ranked per request."
    )
    default_k: int = Field(
        default=10, ge=1, description="Items that `serving_default` returns."
    )


class GateSettings(BaseModel):
    """What a release must show before it is pushed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: ValidationSettings = Field(
        default=ValidationSettings(), description="When a log is refused."
    )
    retrieval: RetrievalGateSettings = Field(
        default=RetrievalGateSettings(),
        description="When a retrieval model is refused.",
    )
    ranking: RankingGateSettings = Field(
        default=RankingGateSettings(), description="When a ranking model is refused."
    )
    export: ExportGateSettings = Field(
        default=ExportGateSettings(), description="When exported models are refused."
    )
    policy: PolicyGateSettings = Field(
        default=PolicyGateSettings(), description="When a policy is refused."
    )
    serving: ServingValidationSettings = Field(
        default=ServingValidationSettings(), description="When a release is refused."
    )


class TandemConfig(BaseModel):
    """Everything a run depends on besides the code and the log itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", description="Names the pipeline in ML Metadata."
    )
    data: DataSettings = Field(
        description="The log; relative paths start at the root folder."
    )
    features: FeatureCatalog = Field(description="The features, declared once.")
    schema_file: str = Field(
        description="The curated TFDV schema: a file of Tandem's own, or a path."
    )
    gates: GateSettings = Field(
        default=GateSettings(), description="What stops a release."
    )
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(), description="The two-tower model."
    )
    candidates: CandidateSettings = Field(
        default=CandidateSettings(), description="Which items go into the index."
    )
    index: IndexSettings = Field(
        default=IndexSettings(), description="How item vectors are searched."
    )
    ranking: RankingSettings = Field(
        default=RankingSettings(), description="The ranking model."
    )
    tuning: TuningSettings = Field(
        default=TuningSettings(),
        description="Which settings `tandem tune` searches; a run reads none of it.",
    )
    policy: PolicySettings = Field(
        default=PolicySettings(), description="How ranked items become a slate."
    )
    serving: ServingSettings = Field(
        default=ServingSettings(), description="The exported recommender."
    )
    push: PushSettings = Field(
        default=PushSettings(), description="What stays in the serving folder."
    )
    beam_pipeline_args: tuple[str, ...] = Field(
        default=(
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            "--direct_running_mode=in_memory",
            "--direct_num_workers=1",
        ),
        description="Given to every Beam stage: any runner and its options.",
    )

    def schema_path(self) -> Path:
        """Returns where the curated schema lies.

        Raises:
            ConfigError: if it is neither shipped nor an existing path.
        """
        for path in (SCHEMA_DIR / self.schema_file, Path(self.schema_file)):
            if path.is_file():
                return path.resolve()
        shipped = sorted(path.name for path in SCHEMA_DIR.glob("*.pbtxt"))
        raise ConfigError(
            f"schema_file: no file `{self.schema_file}`. Shipped: {shipped}; give one of "
            "these or the path of your own."
        )


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> TandemConfig:
    """Reads a config file and applies `a.b=c` overrides, under the same checks.

    Args:
        path: a YAML file, or the name of a shipped config such as `movielens-100k`.
        overrides: `key.path=value` strings, the value read as YAML, or `@FILE`: a YAML
            file of keys, as many as it likes, that are laid over the config's.

    Raises:
        ConfigError: names each wrong place, what was seen, and the nearest valid key.
    """
    file = find_config(path)
    values = _read_keys(file)
    for override in overrides:
        if override.startswith("@"):
            _lay_over(values, _read_keys(_overlay_file(override)))
        else:
            _apply_override(values, override)
    try:
        config = TandemConfig.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError("\n".join(f"{file}: {line}" for line in lines)) from error
    sections = {"ranking": config.ranking, "retrieval": config.retrieval}
    problems = [
        *config.gates.data.problems(config.features),
        *space_problems(config.tuning.space, sections),
        *_policy_problems(config),
        *config.policy.problems(config.features),
    ]
    if problems:
        raise ConfigError("\n".join(f"{file}: {problem}" for problem in problems))
    return config


def _policy_problems(config: TandemConfig) -> list[str]:
    ranker = config.ranking.model
    if not config.policy.needs_posterior or ranker is Model.BAYESIAN_FM:
        return []
    return [
        f"`policy.name: {config.policy.name.value}` needs a ranker that knows how unsure "
        f"it is, `ranking.model: bayesian_fm`. Received: `ranking.model: {ranker.value}`"
    ]


def find_config(path: str | Path) -> Path:
    """Returns the file for a path or for the name of a shipped config.

    Raises:
        ConfigError: if there is neither; lists the shipped names.
    """
    for file in (Path(path), CONFIG_DIR / f"{path}.yaml"):
        if file.is_file():
            return file
    shipped = sorted(file.stem for file in CONFIG_DIR.glob("*.yaml"))
    raise ConfigError(
        f"No config file `{path}`. Give a path, or the name of a shipped one: {shipped}."
    )


def _read_keys(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: should hold key: value pairs at its top level.")
    return values


def _overlay_file(override: str) -> Path:
    file = Path(override.removeprefix("@"))
    if not file.is_file():
        raise ConfigError(f"--set `{override}`: no file `{file}`.")
    return file


def _lay_over(values: dict[str, Any], others: Mapping[str, Any]) -> None:
    """Sets each key that others hold, and leaves the keys beside it."""
    for key, value in others.items():
        below = values.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay_over(below, value)
        else:
            values[key] = value


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set `{override}`: should read `key.path=value`.")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(
                f"--set `{override}`: `{parent}` holds a value, not keys."
            )
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set `{override}`: not valid YAML: {error}") from error


def _explain(problem: Mapping[str, Any]) -> str:
    """Returns one sentence for one of pydantic's errors."""
    path = problem["loc"]
    place = ".".join(str(part) for part in path)
    if problem["type"] == "missing":
        return f"{place}: missing, and it has no default."
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}. Received: {problem.get('input')!r}."
    valid = _keys_at(path[:-1])
    nearest = difflib.get_close_matches(str(path[-1]), valid, n=1, cutoff=0.0)
    hint = f" Did you mean `{nearest[0]}`?" if nearest else ""
    return f"{place}: unknown key.{hint} Valid here: {sorted(valid)}."


def _keys_at(path: Iterable[str | int]) -> list[str]:
    """Returns the valid keys of the section at `path` of a config."""
    section: Any = TandemConfig
    for part in path:
        section = _inside(section, str(part))
    section = settings_class(section)
    return list(section.model_fields) if section else []


def _inside(annotation: Any, part: str) -> Any:
    """Returns the type of what `part` names in a value: a field, a key or a position."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(part)
        return field.annotation if field else None
    if get_origin(annotation) in (Union, UnionType):  # `X | None`
        return next(
            (found for a in get_args(annotation) if (found := _inside(a, part))), None
        )
    return settings_class(annotation)


def settings_class(annotation: Any) -> type[BaseModel] | None:
    """Returns the settings inside `X | None`, `tuple[X, ...]`, `dict[str, X]`, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = settings_class(argument)
        if found is not None:
            return found
    return None
