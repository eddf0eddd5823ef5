"""Asks a served release for one user's recommendations, with titles."""

import dataclasses

from serving.client import RecommendationClient
from serving.release_tables import ReleaseTables


@dataclasses.dataclass(frozen=True)
class Answer:
    """One user's recommendations, ready to be shown."""

    user_id: str
    is_known: bool
    history: list[str]  # names, the latest last
    items: list[dict]  # item_id, title, score, propensity
    version: int
    seed: int


def ask(
    client: RecommendationClient,
    tables: ReleaseTables,
    user_id: str,
    k: int,
    seed: int | None = None,
) -> Answer:
    """Looks the user up in the release's profiles and asks the server once.

    Nothing the user met before is recommended again.

    Raises:
        ServerUnavailableError: if no server answers.
        PredictError: if the server refuses the request.
    """
    profile = tables.profile(user_id)
    answer = client.recommend(
        user_id,
        profile.history_item_ids,
        profile.features,
        exclude_item_ids=profile.seen_item_ids,
        k=k,
        seed=seed,
    )
    names = tables.names([*profile.history_item_ids, *answer.item_ids])
    return Answer(
        user_id=user_id,
        is_known=profile.is_known,
        history=[names.get(item, item) for item in profile.history_item_ids],
        items=[
            {
                "item_id": item,
                "title": names.get(item, item),
                "score": score,
                "propensity": propensity,
            }
            for item, score, propensity in zip(
                answer.item_ids, answer.scores, answer.propensities, strict=True
            )
        ],
        version=answer.version,
        seed=answer.seed,
    )
