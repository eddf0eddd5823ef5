"""The config: what is refused, where the message points, what an override may do."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.config import (
    CONFIG_DIR,
    ConfigError,
    TandemConfig,
    find_config,
    load_config,
    settings_class,
)
from pipeline.config_reference import render, settings

SHIPPED = sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))
MINIMAL = """\
name: shop
data:
  events: {path: logs/*.jsonl}
  event_types: {click: {reward: 1.0, label: 1}}
features: {}
schema_file: movielens.pbtxt
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(MINIMAL)
    return path


def refusal(path, *overrides: str) -> str:
    """Returns what `load_config` says where it refuses."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def all_settings_classes(model: type[BaseModel] = TandemConfig) -> set:
    inner = {settings_class(f.annotation) for f in model.model_fields.values()} - {None}
    return {model}.union(*(all_settings_classes(each) for each in inner))


SETTINGS = sorted(all_settings_classes(), key=lambda model: model.__name__)
DEFAULTS = [
    pytest.param(model, name, id=f"{model.__name__}.{name}")
    for model in SETTINGS
    for name, field in model.model_fields.items()
    if not field.is_required()
]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_loads_by_name_and_names_a_shipped_schema(name):
    config = load_config(name)
    assert config.name == name
    assert config.schema_path().is_file()
    assert config.schema_path().is_absolute()


def test_minimal_config_takes_the_defaults(config_file):
    config = load_config(config_file)
    assert config.retrieval.embedding_dim == 64
    assert config.gates.export.min_index_agreement == 0.98
    assert config.policy.name.value == "greedy"
    # FnApiRunner by name: Beam's default would first try to download another runner.
    assert config.beam_pipeline_args[0].endswith(".FnApiRunner")


def test_config_survives_its_own_json():
    config = load_config(SHIPPED[0], ["policy.name=greedy", "index.kind=scann"])
    assert TandemConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("override", "place", "nearest"),
    [
        ("nam=x", "nam", "name"),
        ("retrieval.embeding_dim=3", "retrieval.embeding_dim", "embedding_dim"),
        ("ranking.deepfm.hiden=[1]", "ranking.deepfm.hiden", "hidden"),
        ("gates.data.min_event=1", "gates.data.min_event", "min_events"),
        ("data.events.pat=x", "data.events.pat", "path"),
    ],
)
def test_unknown_key_names_its_path_and_the_nearest_valid_key(
    config_file, override, place, nearest
):
    message = refusal(config_file, override)
    assert f"{config_file}: {place}: unknown key." in message
    assert f"Did you mean `{nearest}`?" in message
    assert f"'{nearest}'" in message.split("Valid here:")[1]


@pytest.mark.parametrize(
    ("override", "place", "nearest"),
    [
        ("data.event_types.click.rewrd=1", "data.event_types.click.rewrd", "reward"),
        (
            "data.event_types.click.label_from_value={at_lest: 4}",
            "data.event_types.click.label_from_value.at_lest",
            "at_least",
        ),
        (
            "features.item=[{name: genre, knd: text, kind: text}]",
            "features.item.0.knd",
            "kind",
        ),
        ("data.users={pth: x}", "data.users.pth", "path"),
    ],
)
def test_unknown_key_inside_a_list_or_a_map_had_no_valid_keys_named(
    config_file, override, place, nearest
):
    # The search for valid keys took positions and names of one's own for fields.
    message = refusal(config_file, override)
    assert f"{place}: unknown key. Did you mean `{nearest}`?" in message


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("retrieval.embedding_dim=sixty", "retrieval.embedding_dim: Input should be a"),
        (
            "retrieval.max_epochs=1.5",
            "retrieval.max_epochs: Input should be a valid in",
        ),
        ("ranking.deepfm.hidden=[8, x]", "ranking.deepfm.hidden.1: Input should be"),
        ("data=1", "data: Input should be a valid dictionary"),
        ("gates.retrieval.beat_item_knn=perhaps", "gates.retrieval.beat_item_knn: Inp"),
        (
            "policy.name=sofmax",
            "policy.name: Input should be 'greedy', 'epsilon_greedy'",
        ),
        ("name=7", "name: Input should be a valid string"),
    ],
)
def test_wrong_type_names_its_path_and_what_was_seen(config_file, override, says):
    message = refusal(config_file, override)
    assert says in message
    assert "Received: " in message


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("retrieval.temperature=0", "retrieval.temperature: Input should be greater"),
        ("retrieval.temperature=.nan", "retrieval.temperature: Input should be greate"),
        ("retrieval.dropout=1", "retrieval.dropout: Input should be less than 1"),
        ("data.split.test_fraction=1.0", "data.split.test_fraction: Input should be l"),
        ("features.history_length=2001", "features.history_length: Input should be le"),
        ("ranking.deepfm.hidden=[0]", "ranking.deepfm.hidden.0: Input should be great"),
        ("name=My Shop", "name: String should match pattern"),
        ("data.event_types={}", "data.event_types: Dictionary should have at least 1"),
        ("serving.default_k=0", "serving.default_k: Input should be greater than or"),
    ],
)
def test_value_out_of_range_names_its_path_and_the_range(config_file, override, says):
    assert says in refusal(config_file, override)


def test_rules_across_keys_are_checked_too(config_file):
    exclusive = "data.event_types.click.label_from_value={at_least: 4}"
    assert "exclude each other" in refusal(config_file, exclusive)
    negative = "data.event_types.click.positive=false"
    assert "at least one event type should be `positive: true`" in refusal(
        config_file, negative
    )
    twice = "features.user=[{name: a, kind: text}, {name: a, kind: numeric}]"
    assert "declared twice: ['a']" in refusal(config_file, twice)


def test_every_problem_is_named_at_once(config_file):
    message = refusal(config_file, "nam=x", "retrieval.dropout=2", "policy.name=best")
    assert len(message.splitlines()) == 3


def test_missing_key_printed_the_whole_section_around_it(tmp_path):
    path = tmp_path / "half.yaml"
    path.write_text("name: shop\nfeatures: {}\nschema_file: movielens.pbtxt\n")
    assert refusal(path) == f"{path}: data: missing, and it has no default."


def test_overrides_apply_in_order_and_reach_sections_the_file_leaves_out(config_file):
    config = load_config(
        config_file,
        [
            "retrieval.max_epochs=1",
            "retrieval.max_epochs=3",
            "ranking.deepfm.hidden=[8, 4]",
            "push.base_path=/models=blue",
            "data.users={path: users.csv}",
            "gates.retrieval.beat_item_knn=true",
        ],
    )
    assert config.retrieval.max_epochs == 3
    assert config.ranking.deepfm.hidden == (8, 4)
    assert config.push.base_path == "/models=blue"
    assert config.data.users.path == "users.csv"
    assert config.gates.retrieval.beat_item_knn is True


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("retrieval.max_epochs", "should read `key.path=value`"),
        ("=3", "should read `key.path=value`"),
        ("name.first=x", "`name` holds a value, not keys"),
        ("name=[x", "not valid YAML"),
    ],
)
def test_malformed_override_is_quoted_with_the_mend(config_file, override, says):
    message = refusal(config_file, override)
    assert f"--set `{override}`" in message
    assert says in message


def test_missing_config_file_lists_the_shipped_names():
    message = refusal("movielens-100")
    assert "No config file `movielens-100`" in message
    assert str(SHIPPED) in message


def test_folder_is_no_config_file(tmp_path):
    assert "No config file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: [", "not valid YAML"),
        (b"", "should hold key: value pairs"),
        (b"- name", "should hold key: value pairs"),
    ],
)
def test_file_that_is_no_mapping_is_refused(tmp_path, content, says):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert f"{path}: {says}" in refusal(path)


def test_file_that_is_no_text_raised_a_decoding_error(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    assert "not valid YAML" in refusal(path)


def test_find_config_takes_a_path_before_a_shipped_name(tmp_path, monkeypatch):
    assert find_config(SHIPPED[0]) == CONFIG_DIR / f"{SHIPPED[0]}.yaml"
    monkeypatch.chdir(tmp_path)
    Path(SHIPPED[0]).write_text(MINIMAL)
    assert load_config(SHIPPED[0]).name == "shop"


def test_schema_of_ones_own_is_taken_and_a_missing_one_lists_the_shipped(
    config_file, tmp_path
):
    own = tmp_path / "own.pbtxt"
    own.write_text("")
    config = load_config(config_file, [f"schema_file={own}"])
    assert config.schema_path() == own
    missing = load_config(config_file, ["schema_file=movilens.pbtxt"])
    with pytest.raises(ConfigError, match="schema_file: no file `movilens.pbtxt`") as e:
        missing.schema_path()
    assert "movielens.pbtxt" in str(e.value)


@pytest.mark.component  # the runner imports TFX
def test_relative_paths_start_at_the_root_and_others_stay():
    from pipeline.local_runner import with_absolute_paths

    config = load_config(
        SHIPPED[0],
        ["data.items={path: /srv/items.csv}", "data.users={path: 'gs://b/users.csv'}"],
    )
    moved = with_absolute_paths(config, Path("/root-folder"))
    expected = f"/root-folder/data/{SHIPPED[0]}/events.parquet"
    assert moved.data.events.path == expected
    assert moved.data.items.path == "/srv/items.csv"
    assert moved.data.users.path == "gs://b/users.csv"
    assert moved.model_copy(update={"data": config.data}) == config
    without = config.model_copy(
        update={"data": config.data.model_copy(update={"users": None})}
    )
    assert with_absolute_paths(without, Path("/r")).data.users is None


@pytest.mark.parametrize("model", SETTINGS)
def test_settings_forbid_unknown_keys_and_changes(model):
    assert model.model_config.get("extra") == "forbid"
    assert model.model_config.get("frozen") is True


@pytest.mark.parametrize(("model", "name"), DEFAULTS)
def test_default_keeps_to_its_own_bounds(model, name):
    default = model.model_fields[name].get_default(call_default_factory=True)
    assert model.__pydantic_validator__.validate_assignment(
        model.model_construct(), name, default
    )


def _bounded():
    for model in SETTINGS:
        for name, field in model.model_fields.items():
            for constraint in field.metadata:
                for kind in ("ge", "gt", "le", "lt"):
                    limit = getattr(constraint, kind, None)
                    if limit is not None:
                        yield pytest.param(
                            model,
                            name,
                            kind,
                            limit,
                            id=f"{model.__name__}.{name}-{kind}",
                        )


@pytest.mark.parametrize(("model", "name", "kind", "limit"), _bounded())
def test_bound_is_where_it_says(model, name, kind, limit):
    def accepts(value) -> bool:
        try:
            model.__pydantic_validator__.validate_assignment(
                model.model_construct(), name, value
            )
        except ValidationError as error:
            # Only this field's own complaint counts: the rest is not filled in.
            return not any(problem["loc"] == (name,) for problem in error.errors())
        return True

    assert accepts(limit) is (kind in ("ge", "le"))
    assert not accepts(limit - 1 if kind in ("ge", "gt") else limit + 1)


def test_every_number_has_a_bound():
    """A count, a share or a rate without a range is a range nobody thought of."""
    free = {
        "data.event_types.<name>.label_from_value.at_least",  # any value of a log
        "tuning.space.<name>.min",  # held to the bounds of the key that is searched
        "tuning.space.<name>.max",
        "policy.caps",  # of each value: test_config_policy.py
    }
    unbounded = {
        row.path
        for row in settings()
        if re.match(r"integer|number", row.type) and not row.bounds
    }
    assert unbounded == free


@pytest.mark.parametrize("row", settings(), ids=lambda row: row.path)
def test_every_setting_says_what_it_means(row):
    assert row.description.rstrip().endswith("."), row
    assert len(row.description) >= 10


def test_configuration_page_is_what_the_settings_say():
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text() == render(), (
        "docs/configuration.md is out of date; run "
        "`uv run python -m pipeline.config_reference > docs/configuration.md`"
    )


def test_configuration_page_names_every_top_level_key_and_bound():
    text = render()
    for name in TandemConfig.model_fields:
        assert f"| `{name}` |" in text
    assert "| `retrieval.dropout` | number | `0.1` | >= 0, < 1 |" in text
    assert '| `data.events.list_separator` | string | `"\\|"` |' in text
    assert "Its keys are those of `data.events`." in text


@pytest.mark.parametrize("policy", ["thompson", "ucb"])
def test_policy_that_needs_a_posterior_refuses_other_rankers(policy):
    overrides = [f"policy.name={policy}", "ranking.model=deepfm"]
    mend = f"`policy.name: {policy}` needs .*`ranking.model: bayesian_fm`"
    with pytest.raises(ConfigError, match=mend):
        load_config("movielens-100k", overrides)
    load_config("movielens-100k", [overrides[0], "ranking.model=bayesian_fm"])
