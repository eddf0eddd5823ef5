"""`tandem ope`: tables with a known value, releases that answer as told, and refusals."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings
from components.policy_gate_settings import PolicyGateSettings, neutral_label
from components.policy_log import ShownRows
from components.release_policy import NoPolicyError, PolicyOnLog
from pipeline import ope as ope_module
from pipeline.cli import cli
from pipeline.config import ConfigError, load_config
from pipeline.ope import compare_releases, compare_tables
from pipeline.ope_tables import read_log_table, read_policy_table
from pipeline.run_state import LatestStage, StageRun, StageState
from serving.release_tables import NoReleaseError

QUALITY = np.array([0.2, 0.8])
SETTINGS = PolicyGateSettings(
    places="independent", evaluation={"num_resamples": 100, "parameters": (1, 100)}
)


def _log_frame(num_rows=1200, seed=0):
    """Two items shown with .75 and .25 at the top, evenly below; clicked by quality."""
    rng = np.random.default_rng(seed)
    position = np.arange(num_rows) % 2
    share = np.where(position == 0, 0.75, 0.5)
    item = (rng.random(num_rows) > share).astype(int)
    return pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(num_rows)],
            "user_id": [f"u{n // 6}" for n in range(num_rows)],
            "item_id": [f"i{n}" for n in item],
            "propensity": np.where(item == 0, share, 1 - share),
            "label": (rng.random(num_rows) < QUALITY[item]).astype(float),
            "position": position,
        }
    )


def _policy_frame(name="best", first=0.1, **more):
    choices = {"item_id": ["i0", "i1"], "propensity": [first, 1 - first]}
    return pd.DataFrame({"policy": name, **choices, **more})


@pytest.fixture
def tables(tmp_path):
    """Returns a function that writes frames and returns their paths."""

    def write(**frames):
        paths = []
        for name, frame in frames.items():
            paths.append(tmp_path / f"{name}.parquet")
            frame.to_parquet(paths[-1])
        return paths

    return write


# ---------------------------------------------------------------- tables


def test_policies_of_tables_are_worth_what_they_are(tables):
    log, policies = tables(
        log=_log_frame(),
        policies=pd.concat([_policy_frame(), _policy_frame("even", 0.5)]),
    )
    found = compare_tables(log, [policies], 0.0, SETTINGS).figures
    assert list(found["policies"]) == ["best", "even"]
    for name, value in (("best", 0.1 * 0.2 + 0.9 * 0.8), ("even", 0.5)):
        of_policy = found["policies"][name]
        assert of_policy["judged_by"] == "dr"
        for estimator in ("ips", "snips", "dr"):
            estimate = of_policy["metrics"]["ctr"][estimator]
            assert abs(estimate["value"] - value) < 5 * estimate["standard_error"]
        gain = of_policy["gain"]
        logged = found["logged"]["score"]["value"]
        judged = of_policy["metrics"]["score"]["dr"]["value"]
        assert gain["value"] == pytest.approx(judged - logged)
        assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    assert found["policies"]["best"]["gain"]["interval"][0] > 0


def check_targets(read):
    """Chances by item, by position and by event, each where it belongs."""
    log = _log_frame(6)
    by_position = {"position": [0, 0, 1, 1], "item_id": ["i0", "i1"] * 2}
    shares = [0.9, 0.1, 0.4, 0.6]
    rewards, folds = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])
    target = read(
        pd.DataFrame({"policy": "p", **by_position, "propensity": shares}), log
    )(rewards, folds)
    for row in range(6):
        place, item = log["position"][row], int(log["item_id"][row][1])
        assert target.propensities[row] == shares[2 * place + item]
        inside = folds != folds[row]
        mean = rewards[inside].mean()

        def q(item, place=place, inside=inside, mean=mean):
            same = inside & (log["position"] == place) & (log["item_id"] == f"i{item}")
            return (rewards[same].sum() + 10 * mean) / (same.sum() + 10)

        expected = sum(shares[2 * place + n] * q(n) for n in (0, 1))
        np.testing.assert_allclose(target.q_logged[row], q(item), rtol=1e-12)
        np.testing.assert_allclose(target.q_target[row], expected, rtol=1e-12)
    events = [(e, i) for e in log["event_id"] for i in ("i0", "i1")]
    by_event = pd.DataFrame(events, columns=["event_id", "item_id"]).assign(
        policy="p", propensity=np.tile([0.3, 0.7], 6)
    )
    target = read(by_event, log)(rewards, folds)
    expected = np.where(log["item_id"] == "i0", 0.3, 0.7)
    np.testing.assert_array_equal(target.propensities, expected)
    assert target.q_target is not None
    target = read(by_event.iloc[1:], log)(rewards, folds)  # a chance is missing
    assert target.q_target is None


@pytest.fixture
def read(tables):
    def read(policies, log):
        log_path, path = tables(log=log, policies=policies)
        return read_policy_table(path, read_log_table(log_path))["p"]

    return read


def test_policy_tables_value(read):
    check_targets(read)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda policies, log: (policies, log.assign(position=1 - log["position"])),
        lambda policies, log: (
            policies.assign(propensity=policies["propensity"][::-1].to_numpy()),
            log,
        ),
    ],
    ids=["places swapped", "items swapped"],
)
def test_policy_tables_checker_rejects(wrong, read):
    with pytest.raises(AssertionError):
        check_targets(lambda *frames: read(*wrong(*frames)))


def test_a_policy_of_a_part_has_no_reward_model_and_says_so(tables):
    part = _policy_frame().iloc[1:]
    log, policies = tables(log=_log_frame(), policies=part)
    found = compare_tables(log, [policies], 0.0, SETTINGS).figures["policies"]["best"]
    assert found["judged_by"] == "snips" and "dr" not in found["metrics"]["score"]


def test_rows_without_propensity_are_counted_and_left_out(tables):
    frame = _log_frame(300)
    frame.loc[:9, "propensity"] = np.nan
    log, policies = tables(log=frame, policies=_policy_frame())
    figures = compare_tables(log, [policies], 0.0, SETTINGS).figures["log"]
    assert (figures["rows"], figures["rows_without_propensity"]) == (290, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda log: log.drop(columns="label"), "`label` or `reward`"),
        (lambda log: log.drop(columns="item_id"), "without .'item_id'."),
        (
            lambda log: log.assign(propensity=1.5),
            r"in \(0, 1\]. Received: 1.5 for item",
        ),
        (lambda log: log.assign(label="yes"), "`label` should hold numbers.*'yes'"),
        (lambda log: log.iloc[:0], "at least one row"),
    ],
)
def test_log_tables_refuse(change, message, tables):
    log, policies = tables(log=change(_log_frame(20)), policies=_policy_frame())
    with pytest.raises(ConfigError, match=message):
        compare_tables(log, [policies], 0.0, SETTINGS)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_policy_frame(first=1.5), r"in \[0, 1\]. Received: 1.5 in row 1"),
        (pd.concat([_policy_frame()] * 2), "Received twice: .'best', 'i0'"),
        (_policy_frame(request_id="r").drop(columns="policy"), "without .'policy'."),
    ],
)
def test_policy_tables_refuse(frame, message, tables):
    log, policies = tables(log=_log_frame(20), policies=frame)
    with pytest.raises(ConfigError, match=message):
        compare_tables(log, [policies], 0.0, SETTINGS)


def test_policies_by_event_need_events_in_the_log(tables):
    log, policies = tables(
        log=_log_frame(20).drop(columns="event_id"),
        policies=_policy_frame(event_id="e0"),
    )
    with pytest.raises(ConfigError, match="`event_id`, which the log should have too"):
        compare_tables(log, [policies], 0.0, SETTINGS)


def test_chances_given_what_is_above_need_whole_slates(tables):
    log, policies = tables(log=_log_frame(20), policies=_policy_frame())
    with pytest.raises(ConfigError, match="say `places: independent`"):
        compare_tables(log, [policies], 0.0, PolicyGateSettings(places="cascade"))


# ---------------------------------------------------------------- releases


class _Release:
    def __init__(self, share):
        self._share = share

    def on_log(self, rows, slates, num_draws, seed):
        size = len(rows.users)
        item = np.array([int(item[1:]) for item in rows.items])
        shares = np.array([1 - self._share, self._share])
        draws = np.random.default_rng(0).choice(2, (size, num_draws), p=shares)
        return PolicyOnLog(shares[item], QUALITY[item], QUALITY[draws])


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root of three releases, the second too old to be asked, and a run's log."""
    frame = _log_frame()
    rows = ShownRows(
        frame["user_id"].str.encode("utf8").to_numpy(object),
        frame["item_id"].str.encode("utf8").to_numpy(object),
        frame["label"].to_numpy(),
        frame["label"].to_numpy(),
        frame["propensity"].to_numpy(),
        frame["position"].to_numpy(),
        np.arange(len(frame)),
        np.zeros(len(frame), object),
        0,
    )
    (tmp_path / "metadata.sqlite").touch()
    run = StageRun(*[None] * len(dataclasses.fields(StageRun)))
    run = dataclasses.replace(
        run, state=next(iter(StageState)), outputs={"impressions": "uri"}
    )
    values = {"run": run, "pipeline": "open-bandit"}
    fields = {f.name: values.get(f.name) for f in dataclasses.fields(LatestStage)}
    monkeypatch.setattr(ope_module, "read_latest", lambda *args: LatestStage(**fields))
    monkeypatch.setattr(ope_module, "read_shown", lambda uri, split: rows)
    monkeypatch.setattr(ope_module, "list_releases", lambda root: [1, 2, 3])

    def of_version(serving_root, version):
        if version == 2:
            raise NoPolicyError("release 2 is too old.")
        return _Release(0.9 if version == 3 else 0.2)

    monkeypatch.setattr(ope_module.ReleasePolicy, "of_version", of_version)
    return tmp_path


OVERRIDES = (
    "gates.policy.places=independent",
    "gates.policy.evaluation={num_resamples: 100, parameters: [1, 100]}",
)


def test_releases_are_asked_about_the_latest_runs_log(root):
    config = load_config("open-bandit", OVERRIDES)
    found = compare_releases(config, root)
    assert list(found.figures["policies"]) == ["release 1", "release 3"]
    assert found.left_out == {"release 2": "release 2 is too old."}
    values = [
        found.figures["policies"][name]["metrics"]["score"]["dr"]["value"]
        for name in ("release 1", "release 3")
    ]
    assert values == [pytest.approx(0.32, abs=0.05), pytest.approx(0.74, abs=0.07)]
    only = compare_releases(config, root, [3])
    assert list(only.figures["policies"]) == ["release 3"]


def test_releases_that_are_not_there_are_named(root):
    config = load_config("open-bandit", OVERRIDES)
    with pytest.raises(
        NoReleaseError, match=r"no release 7 in .* There are: \[1, 2, 3\]"
    ):
        compare_releases(config, root, [3, 7])
    with pytest.raises(NoReleaseError, match="too old"):
        compare_releases(config, root, [2])


def test_a_log_without_propensities_cannot_tell(root, monkeypatch):
    empty = ShownRows(*[np.zeros(0)] * 8, num_without=9)
    monkeypatch.setattr(ope_module, "read_shown", lambda uri, split: empty)
    with pytest.raises(IngestionError, match="none of the 9 rows .* has a propensity"):
        compare_releases(load_config("open-bandit"), root)


def test_a_root_without_a_run_says_so(tmp_path):
    with pytest.raises(IngestionError, match="no ingestion of `open-bandit`"):
        compare_releases(load_config("open-bandit"), tmp_path)


def test_neutral_label_is_that_of_what_is_answered():
    def settings(impression):
        types = {"click": {"reward": 1, "label": 1, "answers": "impression"}}
        types["impression"] = {"reward": 0, "positive": False, "label": impression}
        table = {"path": "x"}
        return DataSettings(events=table, items=table, event_types=types)

    assert neutral_label(settings(0.5)) == 0.5
    assert neutral_label(settings(0)) == 0.0
    rated = {"rating": {"reward": 1, "label_from_value": {"at_least": 4}}}
    table = {"path": "x"}
    ratings = DataSettings(events=table, items=table, event_types=rated)
    assert neutral_label(ratings) == 0.0


# ---------------------------------------------------------------- the command


def test_command_prints_one_object_and_draws(tables, tmp_path):
    log, policies = tables(log=_log_frame(), policies=_policy_frame())
    plot = tmp_path / "plots" / "policies.png"
    arguments = ["ope", "--log", log, "--policies", policies, "--plot", plot, "--json"]
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["policies"]) == {"best"} and told["left_out"] == {}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_command_prints_a_table(tables):
    log, policies = tables(log=_log_frame(), policies=_policy_frame())
    done = CliRunner().invoke(
        cli, ["ope", "--log", str(log), "--policies", str(policies)]
    )
    assert done.exit_code == 0, done.output
    assert "best" in done.stdout and "logged" in done.stdout and "dr" in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["--log", __file__], ["--config", "x", "--log", __file__]]
)
def test_command_refuses_what_does_not_go_together(arguments):
    assert CliRunner().invoke(cli, ["ope", *arguments]).exit_code == 2
