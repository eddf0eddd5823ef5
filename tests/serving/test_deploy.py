"""What serving/deploy holds is what servers, schemas and the rest of the project say it is.

No image is built here: manifests are held against the schemas of their own kind, configs are
parsed by TF Serving's messages, and every name that crosses a file is looked up at its end.
"""

import ast
import copy
import functools
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.config_messages import BatchingParameters, MonitoringConfig, read_message
from serving.errors import ServerStartError
from serving.metrics import DEFAULT_PATH, ServerMetrics
from serving.model_config import served_models
from serving.release_layout import MODELS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "serving" / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
LOCKED = {
    package["name"]: package.get("version")
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "tandem.json").read_text())


@functools.cache
def documents() -> list[dict]:
    return [
        document
        for path in KUBERNETES
        for document in yaml.safe_load_all(path.read_text())
    ]


def workloads() -> list[dict]:
    return [one for one in documents() if "template" in one.get("spec", {})]


def config_map() -> dict[str, str]:
    (found,) = (one for one in documents() if one["kind"] == "ConfigMap")
    return found["data"]


def model_config(name: str) -> model_server_config_pb2.ModelServerConfig:
    text = (DEPLOY / name).read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


# --- What a model server is told


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("models.config", set(MODELS)),
        ("models.canary.config", set(MODELS)),
        ("models.stock.config", set(MODELS) - {"recommender"}),
    ],
)
def test_model_configs_serve_the_models_that_such_a_server_can_load(name, models):
    served = served_models(model_config(name), DEPLOY / name)
    assert {model.name for model in served} == models
    for model in served:
        assert model.base_path == Path("/serving") / model.name


def test_canary_config_labels_two_versions_of_every_model():
    for entry in model_config("models.canary.config").model_config_list.config:
        labels = dict(entry.version_labels)
        assert set(labels) == {"stable", "canary"}
        assert set(entry.model_version_policy.specific.versions) == set(labels.values())


def test_batching_and_monitoring_configs_are_tf_servings():
    batching = read_message(BatchingParameters, DEPLOY / "batching.config")
    assert batching.max_batch_size.value == 16
    assert batching.pad_variable_length_inputs
    monitoring = read_message(MonitoringConfig, DEPLOY / "monitoring.config")
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == DEFAULT_PATH


def test_unknown_field_of_a_config_is_refused(tmp_path):
    wrong = tmp_path / "batching.config"
    wrong.write_text("max_batch_sise { value: 16 }")
    with pytest.raises(ServerStartError, match="max_batch_sise"):
        read_message(BatchingParameters, wrong)


def test_batching_comment_says_what_was_measured():
    result = json.loads(
        (ROOT / "benchmarks" / "results" / "serving_overhead.json").read_text()
    )
    comment = (DEPLOY / "batching.config").read_text()
    said = re.search(r"are answered ([\d.]+)\n# times", comment)
    assert said and abs(float(said[1]) - result["figures"]["gain_of_batching"]) < 0.1


# --- Kubernetes


@pytest.mark.parametrize("document", documents(), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")  # fmt: skip
def test_manifest_is_of_its_kinds_schema(document):
    kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(replica=2),
        lambda spec: spec["template"]["spec"]["containers"][0].update(image=3),
        lambda spec: spec.pop("selector"),
    ],
)
def test_schema_check_rejects_a_wrong_manifest(spoil):
    document = copy.deepcopy(next(one for one in workloads()))
    spoil(document["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_config_map_holds_the_files_word_for_word():
    for name, text in config_map().items():
        assert text == (DEPLOY / name).read_text(), name


@pytest.mark.parametrize("workload", workloads(), ids=lambda w: w["metadata"]["name"])
def test_workload_mounts_what_there_is_and_reads_what_it_mounts(workload):
    pod = workload["spec"]["template"]["spec"]
    claims = {
        one["metadata"]["name"]
        for one in documents()
        if one["kind"] == "PersistentVolumeClaim"
    }
    own = {
        one["metadata"]["name"]
        for one in workload["spec"].get("volumeClaimTemplates", [])
    }
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "configMap" in volume:
            assert volume["configMap"]["name"] == "tandem-serving"
    (container,) = pod["containers"]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert set(mounts.values()) <= set(volumes) | own
    for argument in container["args"]:
        path = argument.partition("=")[2]
        if path.startswith("/etc/tandem/"):
            assert "configMap" in volumes[mounts["/etc/tandem"]]
            assert Path(path).name in config_map()
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        named = container.get(probe, {}).get("httpGet", {}).get("port")
        assert named is None or named in ports


def test_services_budgets_and_scalers_mean_a_workload():
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in workloads()
    }
    for document in documents():
        spec = document.get("spec", {})
        name = document["metadata"]["name"]
        if document["kind"] == "Service":
            assert spec["selector"] == labels[name]
        if document["kind"] == "PodDisruptionBudget":
            assert spec["selector"]["matchLabels"] == labels[name]
        if document["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] in labels


def test_readiness_asks_for_a_model_that_the_config_serves():
    for workload in workloads():
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        path = container["readinessProbe"].get("httpGet", {}).get("path", "")
        if found := re.fullmatch(r"/v1/models/(\w+)/metadata", path):
            (config,) = (
                Path(argument.partition("=")[2]).name
                for argument in container["args"]
                if argument.startswith("--model_config_file=")
            )
            entries = model_config(config).model_config_list.config
            assert found[1] in {entry.name for entry in entries}


# --- Compose


@functools.cache
def compose_schema() -> jsonschema.protocols.Validator:
    schema = get_builtin_schema("vendor.compose-spec")
    return jsonschema.validators.validator_for(schema)(schema)


def check_compose(document: dict) -> None:
    compose_schema().validate(document)


def test_compose_file_is_of_its_schema():
    check_compose(COMPOSE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda services: services["redis"].update(imagee="redis"),
        lambda services: services["tandem"].update(ports={"a": 1}),
        lambda services: services["grafana"].update(depends_on=7),
    ],
)
def test_compose_check_rejects_a_wrong_file(spoil):
    document = copy.deepcopy(COMPOSE)
    spoil(document["services"])
    with pytest.raises(jsonschema.ValidationError):
        check_compose(document)


def test_compose_mounts_and_builds_what_there_is():
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if volume.startswith("./") else None
            assert source is None or (DEPLOY / source).exists(), (name, volume)
        if build := service.get("build"):
            context = DEPLOY / build["context"]
            assert (context / build["dockerfile"]).is_file()


def test_prometheus_reads_the_servers_of_the_compose_file():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["metrics_path"] == DEFAULT_PATH
    (static,) = job["static_configs"]
    hosts = {target.partition(":")[0] for target in static["targets"]}
    assert hosts <= set(COMPOSE["services"])
    assert {target.partition(":")[2] for target in static["targets"]} == {"8501"}


# --- Images


def pins(dockerfile: str) -> dict[str, str]:
    text = (DEPLOY / dockerfile).read_text()
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("dockerfile", "argument", "package"),
    [
        ("tf-serving-scann.Dockerfile", "TF_SERVING_VERSION", "tensorflow-serving-api"),
        ("tf-serving-scann.Dockerfile", "TF_SERVING_VERSION", "tensorflow"),
        ("tf-serving-scann.Dockerfile", "SCANN_VERSION", "scann"),
        ("tf-serving-gpu.Dockerfile", "TF_SERVING_VERSION", "tensorflow-serving-api"),
    ],
)
def test_images_are_of_the_locked_versions(dockerfile, argument, package):
    assert pins(dockerfile)[argument] == LOCKED[package]


def test_tandems_image_is_of_its_python_and_copies_all_of_its_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = pins("tandem.Dockerfile")["PYTHON_VERSION"]
    assert project["project"]["requires-python"].startswith(f">={pinned},")
    text = (DEPLOY / "tandem.Dockerfile").read_text()
    setup = ast.parse((ROOT / "setup.py").read_text())
    (packages,) = (
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "PACKAGES"
    )
    for package in packages:
        assert f" {package} {package}\n" in text


@pytest.mark.parametrize(
    "dockerfile", sorted(path.name for path in DEPLOY.glob("*.Dockerfile"))
)
def test_what_an_image_copies_exists(dockerfile):
    context = ROOT if dockerfile == "tandem.Dockerfile" else DEPLOY
    text = (DEPLOY / dockerfile).read_text()
    for line in re.findall(r"^COPY (?!.*--from)(.*)$", text, flags=re.MULTILINE):
        *sources, _ = (part for part in line.split() if not part.startswith("--"))
        for source in sources:
            assert (context / source).exists(), source


def test_manifests_name_the_images_that_are_built():
    built = {
        service["image"]
        for service in COMPOSE["services"].values()
        if "build" in service
    }
    for workload in workloads():
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        image = container["image"]
        assert image in built or not image.startswith("tandem/")


def test_tandems_server_is_started_with_options_that_it_has():
    from pipeline.cli import serve

    known = {name for option in serve.params for name in option.opts}
    asked = [COMPOSE["services"]["tandem"]["command"]]
    asked += [
        container["args"]
        for workload in workloads()
        for container in workload["spec"]["template"]["spec"]["containers"]
        if container["image"].startswith("tandem/tandem:")
    ]
    for arguments in asked:
        assert arguments[0] == "serve"
        options = {
            argument.partition("=")[0]
            for argument in arguments
            if argument.startswith("--")
        }
        assert options <= known


# --- The dashboard


def exposed() -> set[str]:
    metrics = ServerMetrics()
    metrics.count_request("m", "Predict", "GRPC", "OK", 0.1)
    metrics.time_graph("m", "Predict", 0.1)
    metrics.count_load("/m/1", True)
    lines = metrics.exposition().decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def asked_metrics(dashboard: dict) -> set[str]:
    texts = [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]
    texts += [
        variable["query"]["query"] for variable in dashboard["templating"]["list"]
    ]
    return {name for text in texts for name in re.findall(r":tensorflow:[\w:]+", text)}


def test_dashboard_asks_for_metrics_that_the_server_exposes():
    asked = asked_metrics(DASHBOARD)
    assert len(asked) >= 5
    assert asked <= exposed()


def test_dashboard_check_sees_a_metric_that_is_not_there():
    wrong = copy.deepcopy(DASHBOARD)
    wrong["panels"][0]["targets"][0]["expr"] = "rate(:tensorflow:serving:requests[1m])"
    assert not asked_metrics(wrong) <= exposed()


def test_dashboard_reads_the_source_that_grafana_is_given():
    path = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert used == {source["uid"]}
    path = DEPLOY / "grafana" / "provisioning" / "dashboards" / "tandem.yml"
    (provider,) = yaml.safe_load(path.read_text())["providers"]
    mounted = {
        volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]
    }
    assert provider["options"]["path"] in mounted
