"""What a person sees: the MLflow comparison and the report, in a headless Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.factories import make_store
from tests.integration.tracking_server import MlflowServer
from tests.sweeps import sweep_here
from xmadapter.config import EvaluateConfig, ReportConfig, SweepConfig
from xmadapter.jobs import WrittenReport, evaluate_sweep, report_sweep

CHROMIUM = shutil.which("chromium")
METHODS = ("Zero-shot", "Tip-Adapter", "Tip-Adapter-F")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install Debian's chromium"),
    pytest.mark.timeout(300),
    # MLflow's database layer warns of its own deprecations in this process; none of them is ours to mend.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def written(folder: Path) -> WrittenReport:
    """A small sweep without Ray: its trials in the ledger, delivered to a sqlite MLflow, evaluated and reported."""
    make_store(folder / "features")
    config = SweepConfig.model_validate(
        {
            "features": str(folder / "features"),
            "output": str(folder / "sweep"),
            "experiment": "made-up",
            "methods": [
                {"adapter": {"kind": "zero-shot"}},
                {"adapter": {"kind": "tip"}},
                {"adapter": {"kind": "tip-f", "fit": {"epochs": 2}}, "trials": 6},
            ],
            "shots": [1, 2],
            "seeds": [1, 2],
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        }
    )
    sweep_here(config)
    evaluate_sweep(EvaluateConfig(sweep=config.output))
    return report_sweep(ReportConfig(sweep=config.output, output=str(folder / "report")))


@pytest.fixture(scope="module")
def server(folder: Path, written: WrittenReport) -> Iterator[str]:
    service = MlflowServer(folder)
    service.start()
    yield service.address
    service.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*quiet, "--disable-component-update", "--disable-sync"]
        )
        yield chromium
        chromium.close()


def test_the_comparison_page_draws_accuracy_over_shots_for_every_method(
    browser: Browser, server: str, written: WrittenReport
):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.goto(written.comparison.replace("http://127.0.0.1:5000", server))
    for method in METHODS:
        expect(page.get_by_role("link", name=method, exact=True)).to_be_visible(timeout=60_000)
    for metric in ("accuracy/test", "accuracy/validation"):
        expect(page.get_by_role("heading", name=metric)).to_be_visible(timeout=60_000)
    for method in METHODS:
        expect(page.get_by_text(f"{method} (accuracy/test)").first).to_be_visible(timeout=60_000)


def test_the_list_of_experiments_says_what_the_runs_are(browser: Browser, server: str):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.goto(f"{server}/#/experiments")
    expect(page.get_by_role("link", name="made-up", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("a parent run is a method").first).to_be_visible(timeout=60_000)


def test_the_table_of_methods_has_accuracy_interval_and_cost(browser: Browser, server: str):
    page = browser.new_page(viewport={"width": 1900, "height": 950})
    page.goto(f"{server}/#/experiments/1/runs?viewStateShareKey=methods&workflowType=machine_learning")
    for column in ("accuracy/test", "interval/test_low", "interval/test_high", "accuracy/validation"):
        expect(page.get_by_role("columnheader", name=column).first).to_be_visible(timeout=60_000)
    for method in METHODS:
        expect(page.get_by_role("link", name=method, exact=True)).to_be_visible(timeout=60_000)


def test_the_page_of_a_method_leads_to_its_trials_with_their_hyperparameters(browser: Browser, server: str):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.goto(f"{server}/#/experiments/1/runs?viewStateShareKey=methods&workflowType=machine_learning")
    page.get_by_role("link", name="Tip-Adapter-F", exact=True).click(timeout=60_000)
    link = page.get_by_role("link", name="Trials and their hyperparameters")
    expect(link).to_be_visible(timeout=60_000)
    page.goto(f"{server}/#{str(link.get_attribute('href')).partition('#')[2]}")
    expect(page.get_by_text("Parallel Coordinates").first).to_be_visible(timeout=60_000)
    for axis in ("sharpness", "cache_weight"):
        expect(page.locator("svg").get_by_text(axis).first).to_be_visible(timeout=60_000)


def test_the_report_opens_without_a_network_and_shows_its_table_and_pictures(browser: Browser, written: WrittenReport):
    page = browser.new_context(offline=True).new_page()
    page.goto(written.page.resolve().as_uri())
    for method in METHODS:
        expect(page.get_by_text(method, exact=True).first).to_be_visible()
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 500
