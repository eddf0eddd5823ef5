"""What runs: the stages from an event log to a pushed release, and what feeds what.

Conditions, not exceptions, hold the line: a stage behind a gate runs only where the
gate's report is blessed, so a refusal is recorded, with its reason, as an artifact.
"""

import dataclasses

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.artifacts import Release
from components.build_index_component import BuildIndex
from components.candidate_selection_component import SelectCandidates
from components.continue_release_component import ContinueRelease, RankingBase
from components.evaluate_policy_component import EvaluatePolicy
from components.evaluate_ranking_component import EvaluateRanking
from components.evaluate_retrieval_component import EvaluateRetrieval
from components.export_recommender import ExportSettings
from components.export_recommender_component import ExportRecommender
from components.gate_file import BLESSED
from components.policy_gate_settings import neutral_label
from components.push_release_component import PushRelease
from components.validate_serving_component import ValidateServing
from models.ranking.registry import ranker_class
from models.ranking.settings import Target
from pipeline.config import TandemConfig
from pipeline.data_stages import data_stages, transform_stage
from pipeline.last_release import BaseReleaseStrategy
from pipeline.ranking_eval import ranking_eval_config
from pipeline.surroundings import Surroundings
from schemas.features import LABEL, REWARD


def create_pipeline(
    config: TandemConfig, surroundings: Surroundings
) -> tfx.dsl.Pipeline:
    """Builds the pipeline; all it depends on is in its arguments."""
    last_release = tfx.dsl.Resolver(
        strategy_class=surroundings.last_release_strategy,
        # Only a strategy of ours takes it.
        config={"incumbent": surroundings.incumbent}
        if surroundings.incumbent
        else None,
        release=tfx.dsl.Channel(type=Release),
    ).with_id("LastRelease")
    base_release = tfx.dsl.Resolver(
        strategy_class=BaseReleaseStrategy,
        config={"span": surroundings.span, "incumbent": surroundings.incumbent},
        release=tfx.dsl.Channel(type=Release),
    ).with_id("BaseRelease")
    data = {stage.id: stage for stage in data_stages(config, surroundings)}
    ingest, schema = data["IngestEvents"], data["ImportSchemaGen"]
    nodes = [last_release, *data.values()]
    with tfx.dsl.Cond(is_blessed(data["ValidateExamples"])):
        transform = transform_stage(config, ingest, schema, surroundings)
        nodes.append(transform)
        learning = Learning(transform.outputs["transform_graph"])
        if surroundings.continues:
            continuation = ContinueRelease(
                analysed=transform.outputs["transform_graph"],
                summary=ingest.outputs["summary"],
                release=base_release.outputs["release"],
                settings_json=config.retrieval.model_dump_json(),
                # Of others the base does not depend, nor what is trained from it.
                ranking_json=config.ranking.model_dump_json()
                if ranker_class(config.ranking).learns_in_order
                else "",
                catalog_json=config.features.model_dump_json(),
            )
            nodes = [base_release, *nodes, continuation]
            learning = Learning(
                continuation.outputs["transform_graph"], continuation.outputs["base"]
            )
        nodes += _model_stages(
            config, ingest, learning, schema, last_release, surroundings
        )
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=surroundings.pipeline_root,
        components=nodes,
        enable_cache=True,
        metadata_connection_config=surroundings.metadata_connection_config,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )


@dataclasses.dataclass(frozen=True)
class Learning:
    """What the trainers learn with, beside the rows.

    Attributes:
        transform_graph: of Transform, or with the vocabularies of a release before.
        base: what a release left to learn on from; None trains anew.
    """

    transform_graph: tfx.types.BaseChannel
    base: tfx.types.BaseChannel | None = None


def _model_stages(
    config: TandemConfig,
    ingest: BaseNode,
    learning: Learning,
    schema: BaseNode,
    last_release: BaseNode,
    surroundings: Surroundings,
) -> list[BaseNode]:
    """Returns the stages from the transform graph to the pushed release."""
    interactions, catalog = (
        ingest.outputs[name] for name in ("interactions", "catalog")
    )
    to_retrieval_gate = _retrieval_stages(
        config, ingest, learning, schema, last_release, surroundings
    )
    selection, retrieval, index, retrieval_gate = to_retrieval_gate
    candidates = selection.outputs["candidates"]
    joined, ranking_learning = _ranking_learning(config, learning, retrieval)
    to_ranking_gate = _ranking_stages(
        config, ingest, ranking_learning, schema, last_release, surroundings
    )
    ranking, _, ranking_gate = to_ranking_gate
    export = ExportRecommender(
        interactions=interactions,
        catalog=candidates,
        transform_graph=learning.transform_graph,
        retrieval_model=retrieval.outputs["model"],
        ranking_model=ranking.outputs["model"],
        index=index.outputs["index"],
        export_json=_export_settings(config).model_dump_json(),
        settings_json=config.gates.export.model_dump_json(),
    )
    with tfx.dsl.Cond(is_blessed(export)):
        policy_gate = EvaluatePolicy(
            impressions=ingest.outputs["impressions"],
            bundle=export.outputs["bundle"],
            settings_json=config.gates.policy.model_dump_json(),
            neutral_label=neutral_label(config.data),
            serving_root=surroundings.serving_root,
            last_release=last_release.outputs["release"],
        )
        serving_gate = ValidateServing(
            bundle=export.outputs["bundle"],
            catalog=candidates,
            settings_json=config.gates.serving.model_dump_json(),
        )
        # The model gates hold the push alone: TFX's cache asks for the same reports
        # too, and theirs are new whenever there is a new release to compare with.
        with (
            tfx.dsl.Cond(is_blessed(serving_gate)),
            tfx.dsl.Cond(is_blessed(retrieval_gate)),
            tfx.dsl.Cond(is_blessed(ranking_gate)),
            tfx.dsl.Cond(is_blessed(policy_gate)),
        ):
            push = PushRelease(
                bundle=export.outputs["bundle"],
                retrieval_model=retrieval.outputs["model"],
                catalog=catalog,
                profiles=ingest.outputs["profiles"],
                validation=serving_gate.outputs["report"],
                serving_root=surroundings.serving_root,
                newest_release=surroundings.newest_release,
                span=surroundings.span,
                settings_json=config.push.model_dump_json(),
            )
    to_push = [export, policy_gate, serving_gate, push]
    return [*to_retrieval_gate, *joined, *to_ranking_gate, *to_push]


def _ranking_learning(
    config: TandemConfig, learning: Learning, retrieval: BaseNode
) -> tuple[list[BaseNode], Learning]:
    """Returns what the ranker learns with, and the stage that joins it, if one does."""
    if not ranker_class(config.ranking).learns_in_order:
        # It learns all rows anew, and comes from the cache as long as these are the same.
        return [], dataclasses.replace(learning, base=None)
    if not config.ranking.bayesian_fm.two_tower_features:
        return [], learning
    channels = {} if learning.base is None else {"continued": learning.base}
    join = RankingBase(retrieval_model=retrieval.outputs["model"], **channels)
    return [join], dataclasses.replace(learning, base=join.outputs["base"])


def _ranking_stages(
    config: TandemConfig,
    ingest: BaseNode,
    learning: Learning,
    schema: BaseNode,
    last_release: BaseNode,
    surroundings: Surroundings,
) -> tuple[BaseNode, BaseNode, BaseNode]:
    """Returns the stages from the labelled rows to the ranking gate."""
    impressions = ingest.outputs["impressions"]
    target = {Target.LABEL: LABEL, Target.REWARD: REWARD}[config.ranking.target]
    ranking = _trainer(
        "ranking",
        config,
        impressions,
        schema,
        {"checkpoints": surroundings.checkpoints},
        transform_graph=learning.transform_graph,
        base_model=learning.base,
    )
    evaluator = tfx.components.Evaluator(
        examples=impressions,
        example_splits=["test"],
        model=ranking.outputs["model"],
        eval_config=ranking_eval_config(target),
        module_path="components.tfma_slices",
    )
    ranking_gate = EvaluateRanking(
        impressions=impressions,
        catalog=ingest.outputs["catalog"],
        model=ranking.outputs["model"],
        tfma_evaluation=evaluator.outputs["evaluation"],
        settings_json=config.gates.ranking.model_dump_json(),
        model_name=config.ranking.model.value,
        target=target,
        last_release=last_release.outputs["release"],
    )
    return ranking, evaluator, ranking_gate


def _retrieval_stages(
    config: TandemConfig,
    ingest: BaseNode,
    learning: Learning,
    schema: BaseNode,
    last_release: BaseNode,
    surroundings: Surroundings,
) -> tuple[BaseNode, BaseNode, BaseNode, BaseNode]:
    """Returns the stages from the catalogue to the retrieval gate.

    What is behind the index knows only what may be recommended; all else that is known
    of items, their titles say, stays with the whole catalogue.
    """
    interactions, catalog = (
        ingest.outputs[name] for name in ("interactions", "catalog")
    )
    selection = SelectCandidates(
        catalog=catalog,
        summary=ingest.outputs["summary"],
        settings_json=config.candidates.model_dump_json(),
        candidates_fingerprint=surroundings.candidates_fingerprint,
    )
    candidates = selection.outputs["candidates"]
    retrieval = _trainer(
        "retrieval",
        config,
        interactions,
        schema,
        {},
        transform_graph=learning.transform_graph,
        base_model=learning.base,
    )
    index = BuildIndex(catalog=candidates, model=retrieval.outputs["model"])
    gate = EvaluateRetrieval(
        interactions=interactions,
        catalog=catalog,
        candidates=candidates,
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        settings_json=config.gates.retrieval.model_dump_json(),
        last_release=last_release.outputs["release"],
    )
    return selection, retrieval, index, gate


def is_blessed(gate: BaseNode):
    """Returns the condition that a gate's report is blessed."""
    return gate.outputs["report"].future()[0].custom_property(BLESSED) == 1


def _trainer(
    name: str,
    config: TandemConfig,
    examples: tfx.types.BaseChannel,
    schema: BaseNode,
    more_config: dict[str, str],
    **channels: tfx.types.BaseChannel | None,
) -> tfx.components.Trainer:
    """Returns the Trainer that runs `models.<name>.trainer.run_fn` on more channels."""
    return tfx.components.Trainer(
        run_fn=f"models.{name}.trainer.run_fn",
        examples=examples,
        schema=schema.outputs["schema"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={
            "catalog": config.features.model_dump_json(),
            "settings": getattr(config, name).model_dump_json(),
            **more_config,
        },
        **channels,
    ).with_id(f"Trainer.{name}")


def _export_settings(config: TandemConfig) -> ExportSettings:
    return ExportSettings(
        catalog=config.features,
        index=config.index,
        policy=config.policy,
        num_candidates=config.serving.num_candidates,
        default_k=config.serving.default_k,
        # What else the section says has made the items that are exported.
        candidates=config.candidates.of_windows,
    )
