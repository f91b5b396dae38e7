"""What is drawn follows from a study's own history: not from how many trials run at once, nor from interruptions."""

import json
import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

from tests.factories import make_result
from xmadapter.config import MethodConfig, SearchConfig
from xmadapter.distributed.search import StudySearch
from xmadapter.distributed.trial_actor import METRIC
from xmadapter.errors import ConfigError
from xmadapter.study import FinishedTrial, Study
from xmadapter.trial import TrialResult

Ledger = dict[str, dict[int, FinishedTrial]]
SPACE = {
    "sharpness": {"low": 1.0, "high": 10.0, "log": True},
    "fit.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "fit.epochs": {"choices": [10, 20, 40]},
}
SAMPLERS = [
    {"kind": "tpe"},
    {"kind": "random"},
    {"kind": "grid", "points": 2},
    {"kind": "cma-es", "population": 4},
    {"kind": "nsga2", "population": 4},
]
SEARCHES = [{"sampler": sampler, "parallel": parallel} for sampler in SAMPLERS for parallel in (1, 3)]
PRUNED = [{**search, "pruning": {}} for search in SEARCHES if search["sampler"]["kind"] != "nsga2"]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def make_study(search: Mapping[str, Any], *, uid: str = "a", trials: int = 24, **fields: Any) -> Study:
    method = MethodConfig.model_validate(
        {"adapter": {"kind": "tip-f", "fit": {"epochs": 20}}, "space": SPACE, "trials": trials}
    )
    known: dict[str, Any] = {"shots": 4, "seeds": (1,), "take_all": False, **fields}
    return Study(uid=uid, parent="p", method=method, search=SearchConfig.model_validate(search), **known)


def evaluate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Answer as a TrialActor would: best near sharpness 4, now and then a failure, stopped where a rung is missed."""
    drawn = config["drawn"]
    if int(drawn["sharpness"] * 1000) % 11 == 0:
        return {METRIC: 0.0, "failure": "Diverged: made up"}
    score = 0.9 - 0.05 * abs(drawn["sharpness"] - 4) - 10 * abs(drawn["fit.learning_rate"] - 2e-3)
    rungs = {}
    for epoch, needed in config["rungs"]:
        rungs[epoch] = score - 1 / epoch
        if needed is not None and rungs[epoch] < needed:
            return {METRIC: 0.0, "stopped": list(rungs.items())}
    result = make_result(validation=(score, score), trained_parameters=drawn["fit.epochs"], rungs=rungs)
    return {METRIC: score, "result": result.model_dump_json()}


def finish(config: Mapping[str, Any], last: Mapping[str, Any]) -> FinishedTrial:
    """What the ledger gives back of it: through JSON, as a resumed sweep reads it."""
    drawn = json.loads(json.dumps(config["drawn"]))
    result = TrialResult.model_validate_json(last["result"]) if "result" in last else None
    return FinishedTrial(drawn, result, result.rungs if result else dict(last.get("stopped", [])))


def run(
    studies: list[Study], slots: int, *, ledger: Ledger | None = None, trials: int = 10_000, seed: int = 0
) -> Ledger:
    """Run trials in so many slots, which end in random order; stop after so many, as a killed driver does."""
    ledger = {study.uid: dict((ledger or {}).get(study.uid, {})) for study in studies}
    search, order, running = StudySearch((one, ledger[one.uid]) for one in studies), random.Random(seed), {}
    for number in range(trials):
        while len(running) < slots:
            config = search.suggest(uid := f"{number}-{len(running)}")
            if config is None or config == Searcher.FINISHED:
                break
            running[uid] = config
        if not running:
            assert search.suggest("none") == Searcher.FINISHED
            return ledger
        uid = order.choice(sorted(running))
        config = running.pop(uid)
        assert config["number"] not in ledger[config["study"]]
        last = evaluate(config)
        search.on_trial_complete(uid, last)
        ledger[config["study"]][config["number"]] = finish(config, last)
    return ledger


@pytest.mark.parametrize("search", SEARCHES + PRUNED, ids=str)
def test_any_number_of_slots_draws_the_same(search):
    studies = [make_study(search, uid=uid) for uid in ("a", "b")]
    alone = run(studies, 1)
    assert all(len(alone[study.uid]) == study.draws for study in studies)
    for slots in (2, 7):
        assert run(studies, slots, seed=slots) == alone


@pytest.mark.parametrize("search", SEARCHES + PRUNED, ids=str)
def test_a_killed_and_resumed_sweep_draws_what_an_undisturbed_one_does(search):
    study = make_study(search)
    alone = run([study], 1)
    for killed_after in (1, 5, 11):
        half = run([study], 3, trials=killed_after, seed=killed_after)
        assert len(half["a"]) == killed_after
        assert run([study], 2, ledger=half) == alone


def test_a_longer_sweep_keeps_what_a_shorter_one_found():
    shorter = run([make_study({}, trials=8)], 1)
    longer = run([make_study({}, trials=30)], 2, ledger=shorter)
    assert len(longer["a"]) == 30
    assert {number: longer["a"][number] for number in range(8)} == shorter["a"]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_method_as_configured_is_tried_first(sampler):
    study = make_study({"sampler": sampler})
    found = run([study], 1)["a"]
    assert found[0].drawn == study.method.as_configured
    assert len({json.dumps(trial.drawn) for trial in found.values()}) > len(found) / 2


def test_a_grid_tries_every_combination_once():
    study = make_study({"sampler": {"kind": "grid", "points": 3}}, trials=1000)
    drawn = [tuple(trial.drawn.values()) for _, trial in sorted(run([study], 4)["a"].items())]
    assert len(drawn) == len(set(drawn)) == 1 + 3 * 3 * 3
    assert sorted({sharpness for sharpness, _, _ in drawn[1:]}) == pytest.approx([1.0, 10**0.5, 10.0])
    assert make_study({"sampler": {"kind": "grid", "points": 3}}, trials=7).draws == 7


def test_draws_that_depend_on_nothing_run_side_by_side():
    for sampler, at_once in (("tpe", 10), ("random", 24), ("grid", 24)):
        search = StudySearch([(make_study({"sampler": {"kind": sampler}}), {})])
        assert [search.suggest(str(number)) is not None for number in range(at_once + 1)] == [True] * at_once + [False]


def test_studies_take_turns():
    search = StudySearch((make_study({"sampler": {"kind": "random"}}, uid=uid), {}) for uid in ("a", "b", "c"))
    assert [search.suggest(str(number))["study"] for number in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_a_dropped_study_draws_no_more():
    search = StudySearch((make_study({"sampler": {"kind": "random"}}, uid=uid), {}) for uid in ("a", "b"))
    search.suggest("0")
    search.drop({"a"})
    assert {search.suggest(str(number))["study"] for number in range(1, 5)} == {"b"}
    search.on_trial_complete("0", {"failure": "made up"})
    assert {search.suggest(str(number))["study"] for number in range(5, 9)} == {"b"}


def test_a_trial_that_lost_its_process_comes_again_before_any_other_and_fails_at_the_second_loss():
    search = StudySearch([(make_study({"sampler": {"kind": "random"}}, trials=2), {})])
    first = search.suggest("0")
    search.on_trial_complete("0", error=True)
    assert search.suggest("1") == first | {"again": True}
    assert search.suggest("2")["number"] == 1
    search.on_trial_complete("1", error=True)
    assert search.suggest("3") is None
    search.on_trial_complete("2", {"failure": "made up"})
    assert search.suggest("4") == Searcher.FINISHED


def test_a_lost_trial_of_a_dropped_study_does_not_come_again():
    search = StudySearch((make_study({"sampler": {"kind": "random"}}, uid=uid), {}) for uid in ("a", "b"))
    for name in ("0", "1", "2"):
        search.suggest(name)
    search.on_trial_complete("0", error=True)
    search.drop({"a"})
    search.on_trial_complete("2", error=True)
    assert search.suggest("3")["study"] == "b"


@pytest.mark.parametrize("kind", ["tpe", "cma-es"])
def test_samplers_that_learn_end_nearer_to_the_best_than_random_draws(kind):
    def mean_of_last(kind: str) -> float:
        scores = []
        for seed in range(5):
            search = {"sampler": {"kind": kind}, "seed": seed}
            found = run([make_study(search, trials=48)], 1)["a"]
            scores += [trial.result.score for number, trial in found.items() if number >= 32 and trial.result]
        return sum(scores) / len(scores)

    assert mean_of_last(kind) > mean_of_last("random") + 0.02


def test_nsga2_finds_cheap_trials_that_one_goal_alone_gives_up():
    def epochs(sampler: str) -> float:
        found = run([make_study({"sampler": {"kind": sampler}}, trials=60)], 1)["a"]
        return sum(trial.drawn["fit.epochs"] for number, trial in found.items() if number >= 40) / 20

    assert epochs("nsga2") < epochs("random")


def test_halving_stops_those_below_the_best_third_so_far():
    search = {"sampler": {"kind": "random"}, "pruning": {"first_epoch": 2, "factor": 3}}
    found = run([make_study(search, trials=60)], 1)["a"]
    stopped = {number: trial for number, trial in found.items() if trial.rungs and not trial.result}
    assert not any(number < 3 for number in stopped)
    assert len(stopped) > 15
    for number, trial in stopped.items():
        epoch = max(trial.rungs)
        earlier = [found[other].rungs[epoch] for other in range(number) if epoch in found[other].rungs]
        better = sum(value > trial.rungs[epoch] for value in earlier)
        assert better >= len(earlier) // 3 >= 1
    best = max((trial for trial in found.values() if trial.result), key=lambda trial: trial.result.score)
    assert best.rungs.keys() == {2, 6} | ({18} if best.drawn["fit.epochs"] > 18 else set())


def test_only_heads_that_are_trained_are_compared_on_the_way():
    method = MethodConfig.model_validate({"adapter": {"kind": "tip"}, "space": {"sharpness": {"low": 1, "high": 9}}})
    study = make_study({"pruning": {}}).model_copy(update={"method": method})
    assert StudySearch([(study, {})]).suggest("0")["rungs"] == []


def test_a_warm_start_is_tried_after_the_method_as_configured():
    warm = ({"sharpness": 5.0, "fit.learning_rate": 1e-3, "fit.epochs": 20}, {"sharpness": 99.0, "unknown": 1})
    study = make_study({}, warm=warm)
    found = run([study], 1)["a"]
    assert [found[number].drawn for number in (0, 1)] == [study.method.as_configured, warm[0]]
    assert found[2].drawn["sharpness"] != 99


def test_a_ledger_that_no_draw_explains_is_refused():
    study = make_study({"sampler": {"kind": "cma-es", "population": 4}})
    half = run([study], 1, trials=9)["a"]
    other = {**half, 6: FinishedTrial({**half[6].drawn, "sharpness": 1.5}, half[6].result)}
    with pytest.raises(ConfigError, match="another version of Optuna"):
        StudySearch([(study, other)])


def test_optuna_is_not_asked_about_finished_rounds(monkeypatch):
    study = make_study({}, trials=40)
    found = run([study], 1)["a"]
    asked = []
    monkeypatch.setattr(optuna.Study, "ask", lambda *_, **__: asked.append(1))
    assert StudySearch([(study, found)]).suggest("0") == Searcher.FINISHED
    assert not asked
