"""A sweep without Ray: the same trials, ledger and MLflow, one after another in this process."""

from xmadapter.config import SweepConfig
from xmadapter.features import open_features
from xmadapter.records import chosen_entry, method_entry, trial_entry
from xmadapter.results import FinishedTrial, SweepFolder, create_sweep_folder
from xmadapter.selection import select_best
from xmadapter.tracking import Tracker
from xmadapter.trial import run_trial


def sweep_here(config: SweepConfig) -> SweepFolder:
    """Run the first trial of every study, record and deliver it."""
    folder, store = create_sweep_folder(config), open_features(config.features)
    data = store.tuning(config.protocol)
    studies = folder.studies(store.manifest.plan_fingerprint)
    tracker = Tracker(config.tracking, config.experiment, folder.ledger)
    for study in {study.parent: study for study in studies}.values():
        tracker.record(method_entry(study, config, store.manifest))
    results = []
    for study in studies:
        drawn = study.method.as_configured or {}
        results.append(run_trial(data, study.trial(drawn)))
        tracker.record(trial_entry(study, 0, FinishedTrial(drawn, results[-1])))
    tracker.record(chosen_entry(select_best(results), studies))
    tracker.close(timeout_s=120)
    return folder
