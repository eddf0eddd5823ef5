"""What each figure of a benchmark should come to."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on one figure; exactly one of the five is given."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    near: float | None = None  # at most 10 % away

    def is_met(self, value: float) -> bool:
        if self.near is not None:
            return abs(value - self.near) <= 0.1 * abs(self.near)
        if self.at_least is not None:
            return value >= self.at_least
        if self.at_most is not None:
            return value <= self.at_most
        if self.below is not None:
            return value < self.below
        return self.above is not None and value > self.above

    def __str__(self) -> str:
        for sign, bound in (
            (">=", self.at_least),
            ("<=", self.at_most),
            (">", self.above),
            ("<", self.below),
            ("within 10 % of", self.near),
        ):
            if bound is not None:
                return f"{sign} {bound:,g}"
        return ""


# The error of the frequency estimator's simulation, by an independent NumPy program.
ERROR_AT = {
    "error_a0.1_m1": (0.166, 0.164, 0.160, 0.218, 0.189, 0.178),
    "error_a0.05_m1": (0.140, 0.139, 0.136, 0.203, 0.165, 0.154),
    "error_a0.02_m1": (0.173, 0.120, 0.120, 0.231, 0.150, 0.137),
    "error_a0.01_m1": (0.321, 0.113, 0.112, 0.406, 0.152, 0.133),
    "error_a0.005_m1": (0.420, 0.140, 0.108, 0.538, 0.170, 0.138),
    "error_a0.001_m1": (0.464, 0.420, 0.322, 0.541, 0.464, 0.355),
    "error_a0.01_m2": (None, 0.068, 0.067, None, None, 0.090),
    "error_a0.01_m4": (None, 0.049, 0.048, None, None, 0.059),
    "error_a0.01_m1_20k": (None, None, 0.050, None, None, 0.078),
    "error_a0.01_m2_20k": (None, None, 0.037, None, None, 0.065),
    "error_a0.01_m4_20k": (None, None, 0.035, None, None, 0.055),
}
MOMENTS = ("_t1000", "_t5000", "", "_t11000", "_t15000", "_after_switch")

# Whom the two towers race; Tandem's recall less theirs should be above 0.
RETRIEVAL_PEERS = (
    *("popularity", "recent_popularity", "item_knn", "item_knn_decay"),
    *("ease", "ease_decay", "implicit_als", "implicit_bpr", "sasrec", "tfrs_tutorial"),
)

# Whose AUC and log loss Tandem's ranker should beat.
CTR_PEERS = ("deepctr", "logistic", "lightgbm")

TARGETS: dict[str, dict[str, Target]] = {
    "ann_index": {
        "recall@100": Target(at_least=0.95),
        "speedup_over_exact": Target(at_least=15),
        "ratio_to_hnswlib": Target(above=1),
        "ratio_to_faiss": Target(above=1),
    },
    "catalog_cost": {"exponent": Target(below=1)},
    "ctr_peers": {
        **{
            f"auc_tandem_minus_{peer}_{log}": Target(above=0)
            for log in ("trivago", "movielens")
            for peer in CTR_PEERS
        },
        **{
            f"logloss_tandem_minus_{peer}_{log}": Target(below=0)
            for log in ("trivago", "movielens")
            for peer in CTR_PEERS
        },
        "throughput_ratio_to_deepctr": Target(at_least=1.2),
    },
    "fresh_items": {
        "exact_answers_equal": Target(at_least=1),
        "main_answers_equal": Target(at_least=1),
        "fresh_found": Target(at_least=1),
        "refresh_s": Target(at_most=60),
    },
    "frequency_estimator": {
        f"{key}{moment}": Target(near=error)
        for key, errors in ERROR_AT.items()
        for moment, error in zip(MOMENTS, errors, strict=True)
        if error is not None
    },
    "ingest": {
        "events_per_cpu_s": Target(at_least=25_000),
        "ratio_to_naive_beam": Target(at_least=3),
        "ratio_to_polars": Target(at_least=0.3),
        "growth_10x": Target(at_most=11),
        "peak_rss_gib": Target(at_most=4),
        "wall_ratio_two_workers": Target(above=1),
    },
    "long_memory": {
        "auc_lag500_hpmn_minus_best_other": Target(above=0),
        "auc_lag1_hpmn_minus_best_other": Target(at_least=-0.01),
        "attention_lag50_minus_lag1": Target(above=0),
        "attention_lag500_minus_lag1": Target(above=0),
    },
    "bandit_regret": {
        "lin_ucb_minus_thompson": Target(above=0),
        "epsilon_greedy_minus_lin_ucb": Target(above=0),
        "random_minus_epsilon_greedy": Target(above=0),
        "coverage_thompson": Target(near=0.95),
        "lin_ucb_minus_thompson_after_10_h": Target(above=0),
        "delay_cost_lin_ucb_minus_thompson": Target(above=0),
        "bfm_over_linucb": Target(above=1),
    },
    "closed_loop": {
        "regret_last_share_of_uniform": Target(at_most=0.5),
        "value_last_over_first": Target(above=1),
        "estimates_covered": Target(at_least=0.8),
        "refused_releases": Target(at_most=0),
    },
    "dr_variance": {
        f"{worse}_minus_{better}_{policy}": Target(at_least=0)
        for policy in ("stochastic", "near_deterministic")
        for better, worse in (("full", "squared"), ("squared", "obp"), ("obp", "ols"))
    },
    "ope_parity": {
        "max_abs_difference": Target(at_most=1e-9),
        "max_abs_difference_tuned": Target(at_most=1e-9),
        "max_relative_difference": Target(at_most=0.001),
    },
    "ope_rmse": {
        "rmse_mrdr_by_dr": Target(at_most=1),
        "rmse_dr_by_ips": Target(at_most=1),
        "rmse_ips_by_dm": Target(at_most=1),
        **{
            f"coverage_{name}": Target(at_least=0.93)
            for name in ("ips", "snips", "dr", "sndr", "mrdr")
        },
    },
    "ranker_cost": {
        "growth_hpmn": Target(at_most=1.2),
        "growth_dien": Target(above=1),
    },
    "retrieval_peers": {
        "recall@10_tandem_1m_in_log_order": Target(at_least=0.26),
        "recall@100_tandem_1m_in_log_order": Target(at_least=0.65),
        **{
            f"recall@{cutoff}_tandem_minus_{peer}_{race}": Target(above=0)
            for race in ("100k", "1m", "100k_in_log_order", "1m_in_log_order")
            for cutoff in (10, 100)
            for peer in RETRIEVAL_PEERS
        },
    },
    "sampling_correction": {
        f"recall@{cutoff}_corrected_min_gain": Target(above=0)
        for cutoff in (10, 50, 100)
    },
    "serving_durability": {
        "kills": Target(at_least=100),
        "lost_events": Target(at_most=0),
        "repeated_events": Target(at_most=0),
        "torn_requests": Target(at_most=0),
    },
    "serving_one_call": {"throughput_ratio": Target(at_least=2)},
    "serving_overhead": {
        "throughput_share_of_in_process_b16": Target(at_least=0.7),
        "gain_of_batching": Target(above=1),
    },
    "serving_robustness": {
        "requests": Target(at_least=50_000),
        "crashes": Target(at_most=0),
        "wrong_status": Target(at_most=0),
        "good_requests_failed": Target(at_most=0),
        "rss_growth": Target(at_most=1.1),
    },
    "serving_swap": {
        "failed_requests": Target(at_most=0),
        "p99_ratio_during_swaps": Target(at_most=2),
        "rss_growth": Target(at_most=1.1),
    },
    "sequence_models": {
        "auc_hpmn_minus_best_other": Target(above=0),
        "logloss_hpmn_minus_best_other": Target(below=0),
    },
    "two_tower_throughput": {
        "ratio_to_tfrs": Target(above=1),
        "correction_overhead": Target(at_most=0.05),
        "growth_vocabulary_1000x": Target(at_most=1.5),
    },
}
