"""The compiled Kubeflow spec: read back by kfp, the same graph as the local one."""

import subprocess
import sys

import pytest
import yaml

from pipeline.config import load_config

pytestmark = pytest.mark.component  # importing TFX and kfp takes seconds

STAGES = {
    "BuildIndex",
    "EvaluatePolicy",
    "EvaluateRanking",
    "EvaluateRetrieval",
    "Evaluator",
    "ExampleValidator",
    "ExportRecommender",
    "ImportSchemaGen",
    "IngestEvents",
    "LastRelease",
    "PushRelease",
    "SelectCandidates",
    "StatisticsGen",
    "Trainer.ranking",
    "Trainer.retrieval",
    "Transform",
    "ValidateExamples",
    "ValidateServing",
}


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    from pipeline.kubeflow_runner import compile_pipeline

    output = tmp_path_factory.mktemp("kfp") / "made" / "pipeline.yaml"
    compile_pipeline(
        load_config("movielens-100k"),
        output,
        "tandem:7",
        "gs://bucket/tandem",
        "/serving",
    )
    return output


@pytest.fixture(scope="module")
def tasks(spec_file) -> dict:
    from kfp.components import load_component_from_file

    component = load_component_from_file(str(spec_file))
    assert component.name == "movielens-100k"
    return dict(component.pipeline_spec.root.dag.tasks)


def test_kfp_reads_every_stage_back(tasks):
    assert set(tasks) == STAGES


def test_stages_depend_on_what_they_read(tasks):
    def upstream(stage: str) -> set[str]:
        return set(tasks[stage].dependent_tasks)

    assert {"StatisticsGen", "ImportSchemaGen"} <= upstream("ExampleValidator")
    assert {"IngestEvents", "ImportSchemaGen"} <= upstream("Transform")
    assert {"Transform", "IngestEvents"} <= upstream("Trainer.retrieval")
    assert {"ExportRecommender", "ValidateServing"} <= upstream("PushRelease")


def test_push_waits_for_every_gate(tasks):
    gates = (
        "EvaluateRetrieval",
        "EvaluateRanking",
        "ExportRecommender",
        "EvaluatePolicy",
        "ValidateServing",
    )
    condition = tasks["PushRelease"].trigger_policy.condition
    assert condition.count("blessed") >= len(gates)
    assert all(gate in tasks["PushRelease"].dependent_tasks for gate in gates)


def test_comparison_of_statistics_compiles_too(tmp_path):
    from kfp.components import load_component_from_file

    from pipeline.kubeflow_runner import compile_pipeline

    thresholds = [
        "gates.data.drift={item_id: {linf: 0.1}}",
        "gates.data.skew={user_age: {jensen_shannon: 0.1}}",
        "gates.data.serving_examples=gs://bucket/served/*",
    ]
    output = tmp_path / "pipeline.yaml"
    config = load_config("movielens-100k", thresholds)
    compile_pipeline(config, output, "tandem:7", "gs://bucket/tandem", "/serving")
    dag = load_component_from_file(str(output)).pipeline_spec.root.dag
    assert set(dag.tasks) == STAGES | {"CompareStatistics"}
    assert {"IngestEvents", "StatisticsGen"} <= set(
        dag.tasks["CompareStatistics"].dependent_tasks
    )
    assert "CompareStatistics" in dag.tasks["ValidateExamples"].dependent_tasks


def test_stages_run_in_the_given_image(spec_file):
    documents = list(yaml.safe_load_all(spec_file.read_text()))
    executors = documents[0]["deploymentSpec"]["executors"]
    images = {e["container"]["image"] for e in executors.values() if "container" in e}
    assert images == {"tandem:7"}


def test_command_writes_the_spec_without_a_cluster(tmp_path):
    output = tmp_path / "pipeline.yaml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipeline.cli", "compile"),
            *("--config", "movielens-100k", "--output", str(output)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert output.is_file()
