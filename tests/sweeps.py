"""A sweep without Ray: the same draws, trials, ledger and MLflow, one after another in this process."""

from xmadapter.config import SweepConfig
from xmadapter.distributed.search import StudySearch
from xmadapter.distributed.trial_actor import ended
from xmadapter.features import open_features
from xmadapter.records import chosen_entry, method_entry, trial_entry
from xmadapter.results import SweepFolder, create_sweep_folder
from xmadapter.selection import select_best
from xmadapter.tracking import Tracker
from xmadapter.trial import TrialResult, run_trial


def sweep_here(config: SweepConfig) -> SweepFolder:
    """Run every trial that the folder lacks, record and deliver it."""
    folder, store = create_sweep_folder(config), open_features(config.features)
    finished = folder.trials()
    data = store.tuning(config.protocol)
    studies = {study.uid: study for study in folder.studies(store.manifest.plan_fingerprint)}
    tracker = Tracker(config.tracking, config.experiment, folder.ledger)
    for study in {study.parent: study for study in studies.values()}.values():
        tracker.record(method_entry(study, config, store.manifest))
    search = StudySearch((study, finished.get(study.uid, {})) for study in studies.values())
    for number in range(sum(study.draws - len(finished.get(study.uid, {})) for study in studies.values())):
        drawn = search.suggest(str(number))
        study = studies[drawn["study"]]
        result = run_trial(data, study.trial(drawn["drawn"], drawn["rungs"]))
        last = {"result": result.model_dump_json()}
        search.on_trial_complete(str(number), last)
        tracker.record(trial_entry(study, drawn["number"], *ended(last, drawn["drawn"])))
    best = select_best(folder.results(store.manifest.plan_fingerprint, TrialResult))
    tracker.record(chosen_entry(best, list(studies.values())))
    tracker.close(timeout_s=120)
    return folder
