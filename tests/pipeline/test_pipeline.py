"""The component graph: what feeds what, and which gates stand before each stage."""

import json

import pytest

from pipeline.config import load_config
from pipeline.layout import Layout

pytestmark = pytest.mark.component  # importing TFX takes seconds

DATA_GATE = "ValidateExamples"
MODEL_GATES = {DATA_GATE, "EvaluateRetrieval", "EvaluateRanking"}

# What each stage reads, by the stage that writes it. Gates that a stage waits for
# without reading them stand in GATES.
READS = {
    "LastRelease": set(),
    "IngestEvents": set(),
    "ImportSchemaGen": set(),
    "StatisticsGen": {"IngestEvents"},
    "ExampleValidator": {"StatisticsGen", "ImportSchemaGen"},
    "ValidateExamples": {"ExampleValidator", "IngestEvents", "StatisticsGen"},
    "Transform": {"IngestEvents", "ImportSchemaGen"},
    "Trainer.retrieval": {"IngestEvents", "Transform", "ImportSchemaGen"},
    "SelectCandidates": {"IngestEvents"},
    "BuildIndex": {"SelectCandidates", "Trainer.retrieval"},
    "EvaluateRetrieval": {
        "IngestEvents",
        "SelectCandidates",
        "Trainer.retrieval",
        "BuildIndex",
        "LastRelease",
    },
    "Trainer.ranking": {"IngestEvents", "Transform", "ImportSchemaGen"},
    "Evaluator": {"IngestEvents", "Trainer.ranking"},
    "EvaluateRanking": {
        "IngestEvents",
        "Trainer.ranking",
        "Evaluator",
        "LastRelease",
    },
    "ExportRecommender": {
        "IngestEvents",
        "SelectCandidates",
        "Transform",
        "Trainer.retrieval",
        "Trainer.ranking",
        "BuildIndex",
    },
    "EvaluatePolicy": {"ExportRecommender", "IngestEvents", "LastRelease"},
    "ValidateServing": {"ExportRecommender", "SelectCandidates"},
    "PushRelease": {
        "ExportRecommender",
        "IngestEvents",
        "Trainer.retrieval",
        "ValidateServing",
    },
}
BEHIND_DATA = (
    "SelectCandidates",
    "Transform",
    "Trainer.retrieval",
    "BuildIndex",
    "EvaluateRetrieval",
    "Trainer.ranking",
    "Evaluator",
    "EvaluateRanking",
    "ExportRecommender",
)
GATES = {
    **{stage: set() for stage in READS},
    **{stage: {DATA_GATE} for stage in BEHIND_DATA},
    "EvaluatePolicy": {DATA_GATE, "ExportRecommender"},
    "ValidateServing": {DATA_GATE, "ExportRecommender"},
    "PushRelease": MODEL_GATES
    | {"ExportRecommender", "EvaluatePolicy", "ValidateServing"},
}


def make_pipeline(root, overrides=(), **surroundings):
    from pipeline.pipeline import create_pipeline
    from pipeline.surroundings import Surroundings

    return create_pipeline(
        load_config("movielens-100k", overrides),
        Surroundings(
            pipeline_root=str(root / "artifacts"),
            serving_root=str(root / "serving"),
            schema_file=str(root / "schema.pbtxt"),
            input_fingerprint="0",
            serving_fingerprint="1",
            candidates_fingerprint="2",
            **surroundings,
        ),
    )


def compiled_nodes(pipeline) -> dict:
    """Returns the nodes of the compiled pipeline by id, as a runner reads them."""
    from tfx.dsl.compiler.compiler import Compiler

    compiled = Compiler().compile(pipeline)
    ids = [node.pipeline_node.node_info.id for node in compiled.nodes]
    return dict(zip(ids, (node.pipeline_node for node in compiled.nodes), strict=True))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return make_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def nodes(pipeline) -> dict:
    return compiled_nodes(pipeline)


def read_and_gates(node) -> tuple[set[str], set[str]]:
    """Returns the stages that a compiled node reads, and those its conditions ask.

    A condition `report[0].custom_property("blessed") == 1` is an input `_<gate>.report`
    that the stage's own code never sees, and a predicate that refers to it.
    """
    inputs = node.inputs.inputs
    conditional = node.inputs.conditionals
    asked = set()
    for condition in conditional.values():
        asked |= _keys_of(condition.placeholder_expression)
    produced = {
        key: {channel.producer_node_query.id for channel in spec.channels} - {""}
        for key, spec in inputs.items()
    }
    gates = set().union(*(produced[key] for key in asked)) if asked else set()
    visible = {key for key in inputs if not key.startswith("_")}
    reads = set().union(*(produced[key] for key in visible)) if visible else set()
    return reads, gates


def _keys_of(expression) -> set[str]:
    """Returns the keys of the inputs that a placeholder expression refers to."""
    if expression.HasField("placeholder"):
        return {expression.placeholder.key}
    keys = set()
    for _, field in expression.operator.ListFields():
        for _, value in field.ListFields():
            parts = value if hasattr(value, "__iter__") else [value]
            for part in parts:
                if type(part) is type(expression):
                    keys |= _keys_of(part)
    return keys


def test_graph_has_every_stage_once(pipeline, nodes):
    assert sorted(nodes) == sorted(READS)
    assert len(pipeline.components) == len(READS)


@pytest.mark.parametrize("stage", READS)
def test_stage_reads_what_it_should(nodes, stage):
    reads, _ = read_and_gates(nodes[stage])
    assert reads == READS[stage]


@pytest.mark.parametrize("stage", GATES)
def test_stage_stands_behind_its_gates(nodes, stage):
    _, gates = read_and_gates(nodes[stage])
    assert gates == GATES[stage]


@pytest.mark.parametrize("stage", READS)
def test_graph_that_runs_waits_for_nothing_else(nodes, stage):
    """Upstream, as the runner orders stages, is what is read and what is asked."""
    upstream = set(nodes[stage].upstream_nodes)
    assert upstream == READS[stage] | GATES[stage]


def test_condition_asks_whether_the_report_is_blessed(nodes):
    node = nodes["PushRelease"]
    expressions = [
        str(condition.placeholder_expression)
        for condition in node.inputs.conditionals.values()
    ]
    assert expressions
    for expression in expressions:
        assert '"blessed"' in expression
        assert "is_custom_property: true" in expression
        assert "op: EQUAL" in expression
        assert "int_value: 1" in expression


def test_parameters_are_the_configs_sections(nodes):
    from components.ingestion.settings import DataSettings
    from components.validate_examples_settings import ValidationSettings
    from models.policy_settings import PolicyName

    def parameter(stage: str, name: str) -> str:
        field = nodes[stage].parameters.parameters[name].field_value
        return field.string_value

    config = load_config("movielens-100k")
    data = DataSettings.model_validate_json(parameter("IngestEvents", "settings_json"))
    assert data == config.data
    gate = parameter("ValidateExamples", "settings_json")
    assert ValidationSettings.model_validate_json(gate) == config.gates.data
    assert f'"{PolicyName.SOFTMAX.value}"' in parameter(
        "ExportRecommender", "export_json"
    )
    assert parameter("PushRelease", "serving_root").endswith("/serving")
    # What changes with the log must be a parameter, or a changed log stays cached.
    assert parameter("IngestEvents", "input_fingerprint") == "0"
    assert parameter("SelectCandidates", "candidates_fingerprint") == "2"


@pytest.mark.parametrize(
    "thresholds",
    [
        ["gates.data.drift={label: {jensen_shannon: 0.1}}"],
        [
            "gates.data.skew={user_age: {jensen_shannon: 0.1}}",
            "gates.data.serving_examples=served/*.gz",
        ],
    ],
)
def test_statistics_are_compared_where_something_has_a_threshold(tmp_path, thresholds):
    nodes = compiled_nodes(make_pipeline(tmp_path, thresholds))
    assert sorted(nodes) == sorted([*READS, "CompareStatistics"])
    compared, gates = read_and_gates(nodes["CompareStatistics"])
    assert compared == {"IngestEvents", "StatisticsGen", "ImportSchemaGen"}
    assert gates == set()
    judged, _ = read_and_gates(nodes[DATA_GATE])
    assert judged == READS[DATA_GATE] | {"CompareStatistics"}
    # What changes with the served files must be a parameter too.
    parameters = nodes["CompareStatistics"].parameters.parameters
    assert parameters["serving_fingerprint"].field_value.string_value == "1"


def test_statistics_can_be_compared_with_each_other(nodes):
    import tensorflow_data_validation as tfdv

    from components.feature_statistics import statistics_options

    parameters = nodes["StatisticsGen"].parameters.parameters
    options = parameters["stats_options_json"].field_value.string_value
    written = tfdv.StatsOptions.from_json(options)
    own = statistics_options()
    for name in ("num_histogram_buckets", "num_rank_histogram_buckets"):
        assert getattr(written, name) == getattr(own, name)
    assert written.use_sketch_based_topk_uniques


def test_user_code_is_named_by_dotted_path(nodes):
    """`module_file=` would build and install a wheel at run time."""
    for trainer in ("retrieval", "ranking"):
        parameters = nodes[f"Trainer.{trainer}"].parameters.parameters
        assert parameters["run_fn"].field_value.string_value == (
            f"models.{trainer}.trainer.run_fn"
        )
        assert not parameters["module_path"].field_value.string_value
    transform = nodes["Transform"].parameters.parameters
    assert transform["preprocessing_fn"].field_value.string_value == (
        "models.preprocessing.preprocessing_fn"
    )
    assert transform["materialize"].field_value.int_value == 0


def test_cache_is_on(nodes):
    assert all(
        node.execution_options.caching_options.enable_cache for node in nodes.values()
    )


def test_evaluator_measures_the_test_split_of_the_labelled_rows(nodes):
    parameters = nodes["Evaluator"].parameters.parameters
    assert parameters["example_splits"].field_value.string_value == '["test"]'
    assert "scores" in parameters["eval_config"].field_value.string_value


def test_evaluator_slices_by_what_its_extractors_add(nodes):
    from components.tfma_slices import SLICE_KEYS

    parameters = nodes["Evaluator"].parameters.parameters
    module = parameters["module_path"].field_value.string_value
    assert module == "components.tfma_slices"
    assert not parameters["module_file"].field_value.string_value
    config = parameters["eval_config"].field_value.string_value
    for key in SLICE_KEYS.values():
        assert f'"{key}"' in config
    for plot in ("CalibrationPlot", "ConfusionMatrixPlot"):
        assert plot in config


def test_ranker_is_named_as_the_config_names_it(tmp_path):
    nodes = compiled_nodes(make_pipeline(tmp_path, ["ranking.model=fm"]))
    name = nodes["EvaluateRanking"].parameters.parameters["model_name"]
    assert name.field_value.string_value == "fm"


@pytest.mark.parametrize("target", ["label", "reward"])
def test_ranker_is_judged_by_what_it_predicts(tmp_path, target):
    nodes = compiled_nodes(make_pipeline(tmp_path, [f"ranking.target={target}"]))
    judged = nodes["EvaluateRanking"].parameters.parameters["target"]
    assert judged.field_value.string_value == target
    config = nodes["Evaluator"].parameters.parameters["eval_config"]
    assert f'"label_key": "{target}"' in config.field_value.string_value


@pytest.fixture(scope="module")
def continued(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("continued")
    return compiled_nodes(make_pipeline(root, span="17", continues=True))


def test_continued_span_starts_from_a_release_of_an_earlier_one(continued):
    assert sorted(continued) == sorted([*READS, "BaseRelease", "ContinueRelease"])
    reads, gates = read_and_gates(continued["ContinueRelease"])
    assert reads == {"BaseRelease", "IngestEvents", "Transform"}
    assert gates == {DATA_GATE}
    assert read_and_gates(continued["BaseRelease"]) == (set(), set())
    graph = str(continued["BaseRelease"].inputs.input_graphs)
    assert "pipeline.last_release.BaseReleaseStrategy" in graph
    assert 'string_value: "17"' in graph


@pytest.mark.parametrize(
    "stage", ["Trainer.retrieval", "Trainer.ranking", "ExportRecommender"]
)
def test_all_that_reads_the_graph_reads_the_grown_one(continued, stage):
    reads, _ = read_and_gates(continued[stage])
    assert reads == READS[stage] - {"Transform"} | {"ContinueRelease"}


def test_retrieval_alone_has_a_base(continued, nodes):
    assert "base_model" in continued["Trainer.retrieval"].inputs.inputs
    assert "base_model" not in continued["Trainer.ranking"].inputs.inputs
    assert "base_model" not in nodes["Trainer.retrieval"].inputs.inputs


BAYESIAN = ["ranking.model=bayesian_fm", "policy.name=thompson"]


def test_ranker_that_learns_in_order_goes_on_from_the_release_too(tmp_path):
    nodes = compiled_nodes(make_pipeline(tmp_path, BAYESIAN, span="17", continues=True))
    assert "base_model" in nodes["Trainer.ranking"].inputs.inputs
    assert read_and_gates(nodes["Trainer.ranking"])[0] == (
        READS["Trainer.ranking"] - {"Transform"} | {"ContinueRelease"}
    )
    parameters = nodes["ContinueRelease"].parameters.parameters
    settings = parameters["ranking_json"].field_value.string_value
    assert '"bayesian_fm"' in settings


def test_nothing_is_trained_again_for_the_settings_of_a_ranker_without_base(continued):
    parameters = continued["ContinueRelease"].parameters.parameters
    assert parameters["ranking_json"].field_value.string_value == ""


@pytest.mark.parametrize("continues", [False, True])
def test_ranker_that_reads_the_towers_is_trained_behind_them(tmp_path, continues):
    overrides = [*BAYESIAN, "ranking.bayesian_fm.two_tower_features=true"]
    span = {"span": "17", "continues": True} if continues else {}
    nodes = compiled_nodes(make_pipeline(tmp_path, overrides, **span))
    before = {"ContinueRelease"} if continues else set()
    assert read_and_gates(nodes["RankingBase"])[0] == {"Trainer.retrieval"} | before
    reads, _ = read_and_gates(nodes["Trainer.ranking"])
    graph = before or {"Transform"}
    assert reads == READS["Trainer.ranking"] - {"Transform"} | graph | {"RankingBase"}


def test_span_is_noted_with_its_release(continued, nodes):
    def span(graph):
        parameters = graph["PushRelease"].parameters.parameters
        return parameters["span"].field_value.string_value

    assert (span(continued), span(nodes)) == ("17", "")


def test_span_from_scratch_is_the_usual_graph(tmp_path):
    nodes = compiled_nodes(make_pipeline(tmp_path, span="17"))
    assert sorted(nodes) == sorted(READS)


def test_every_gate_is_reported(nodes):
    """A gate that the report leaves out stops the line without saying why."""
    from pipeline.report import _GATES

    asked = set().union(*GATES.values())
    assert set(_GATES) == asked


def test_a_killed_ranking_is_resumed_from_a_folder_that_outlives_the_stage(tmp_path):
    def checkpoints(pipeline):
        (trainer,) = (c for c in pipeline.components if c.id == "Trainer.ranking")
        return json.loads(trainer.exec_properties["custom_config"])["checkpoints"]

    kept = Layout(tmp_path).checkpoints
    assert checkpoints(make_pipeline(tmp_path, checkpoints=str(kept))) == str(kept)
    assert tmp_path / "artifacts" not in kept.parents
    assert checkpoints(make_pipeline(tmp_path)) == ""
