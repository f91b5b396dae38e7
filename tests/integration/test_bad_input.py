"""What a new user does wrong: one line that names the culprit, the exit status of its kind, and nothing half done."""

import re
import shutil

import pytest

from tests.factories import tree
from tests.integration.line import CLASSES, counted, draw_images, draw_shape, encode_config, records, trial_lines
from xmadapter.bundle import BundleCard
from xmadapter.sealed import seal, unseal

ENCODE = ("pipelines.encode", "--config", "{line}/encode.yaml")
SWEEP = ("pipelines.sweep", "--config", "{line}/sweep.yaml", "output={new}")
DATA = "data={{kind: image-folder, root: {bad}/%s}}"
PREDICT = ("xmadapter", "predict")

# The command, its exit status, the code of its error, and what the message must name.
MISTAKES = {
    "a config that is not there": (("pipelines.encode", "--config", "{bad}/none.yaml"), 2, "config", "{bad}/none.yaml"),
    "a config that is no YAML": (("pipelines.encode", "--config", "{bad}/torn.yaml"), 2, "config", "{bad}/torn.yaml"),
    "a config that is a list": (("pipelines.encode", "--config", "{bad}/list.yaml"), 2, "config", "{bad}/list.yaml"),
    "no config": (("pipelines.encode",), 2, "config", "data: missing; output: missing"),
    "an unknown option": (("pipelines.encode", "--confg", "{line}/encode.yaml"), 2, "config", "--confg"),
    "an override without a value": ((*ENCODE, "views"), 2, "config", "'views' is not an override"),
    "an unknown key": (("pipelines.encode", "--config", "{bad}/key.yaml"), 2, "config", "vews: unknown key (did you mean views?)"),
    "a negative number of views": ((*ENCODE, "views=-1"), 2, "config", "views: "),
    "a typing error in a method": ((*SWEEP, "methods=[{{adapter: {{kind: tipf}}}}]"), 2, "config", "no kind 'tipf'"),
    "no shots": ((*SWEEP, "shots=[0]"), 2, "config", "at least 1, got 0"),
    "the same shots twice": ((*SWEEP, "shots=[2,2]"), 2, "config", "shots: each value once"),
    "two methods of one name": ((*SWEEP, "methods=[{{adapter: {{kind: tip}}}}, {{adapter: {{kind: tip}}}}]"), 2, "config", "Tip-Adapter"),
    "more shots than images": ((*SWEEP, "shots=[16]"), 3, "episode", CLASSES[0]),
    "data that is not there": ((*ENCODE, DATA % "none", "output={new}"), 2, "config", "{bad}/none: no such folder"),
    "a Parquet file that is not there": (
        (*ENCODE, "data={{kind: parquet, path: {bad}/none.parquet}}", "output={new}"), 2, "config", "{bad}/none.parquet",
    ),
    "an empty folder": ((*ENCODE, DATA % "empty", "output={new}"), 3, "data", "{bad}/empty"),
    "a class without images": ((*ENCODE, DATA % "hollow", "output={new}"), 3, "data", "/cat: a class without images"),
    "splits without test": ((*ENCODE, DATA % "testless", "output={new}"), 3, "data", "no test folder"),
    "features that are not there": ((*SWEEP, "features={bad}/none"), 4, "store-incomplete", "{bad}/none has no manifest"),
    "features half written": ((*SWEEP, "features={bad}/half"), 4, "store-incomplete", "37 finished shards are kept"),
    "a manifest that was changed": ((*SWEEP, "features={bad}/forged"), 4, "integrity", "manifest-000001.json was changed"),
    "features of another encoder": ((*ENCODE, "encoder.dim=16"), 2, "fingerprint-mismatch", "encoder.dim 32 there, 16 here"),
    "features of other views": ((*ENCODE, "views=1"), 2, "fingerprint-mismatch", "views 2 there, 1 here"),
    "a store below a file": ((*ENCODE, "output={bad}/file/x"), 6, "resource", "{bad}/file/x"),
    "a sweep below a file": ((*SWEEP, "output={bad}/file/x"), 6, "resource", "{bad}/file/x"),
    "a report below a file": (
        ("pipelines.report", "sweep={line}/sweep", "output={bad}/file/x"), 6, "resource", "{bad}/file/x",
    ),
    "a bundle below a file": (
        ("pipelines.export", "sweep={line}/sweep", "output={bad}/file/x"), 6, "resource", "{bad}/file",
    ),
    "a bucket as output": ((*ENCODE, "output=s3://bucket/x"), 6, "resource", "s3://bucket/x"),
    "an evaluation without a sweep": (("pipelines.evaluate", "sweep={bad}/none"), 2, "config", "{bad}/none holds no sweep"),
    "a report without a sweep": (
        ("pipelines.report", "sweep={bad}/none", "output={new}"), 2, "config", "{bad}/none holds no sweep",
    ),
    "a report before the evaluation": (
        ("pipelines.report", "sweep={bad}/untested", "output={new}"), 2, "config", "run pipelines.evaluate",
    ),
    "an export of an unknown method": (
        ("pipelines.export", "sweep={line}/sweep", "output={new}", "method=Tipp"), 2, "config", "Tipp",
    ),
    "an export of an unknown seed": (
        ("pipelines.export", "sweep={line}/sweep", "output={new}", "seed=7"), 2, "config", "seed 7",
    ),
    "an export over a bundle": (
        ("pipelines.export", "sweep={line}/sweep", "output={line}/bundle"), 2, "config", "exists and was kept",
    ),
    "a ledger that was changed": (("pipelines.evaluate", "sweep={bad}/scratched"), 4, "integrity", "line 2 is damaged"),
    "a bundle that is not there": ((*PREDICT, "{bad}/none", "{image}"), 2, "config", "{bad}/none holds no bundle"),
    "an image that is not there": ((*PREDICT, "{line}/bundle", "{bad}/none.png"), 3, "data", "{bad}/none.png (missing)"),
    "a text as image": ((*PREDICT, "{line}/bundle", "{bad}/list.yaml"), 3, "data", "{bad}/list.yaml (not_image)"),
    "a bundle with a changed tensor": ((*PREDICT, "{bad}/flipped", "{image}"), 4, "integrity", "adapter.safetensors"),
    "a bundle with a changed card": ((*PREDICT, "{bad}/edited", "{image}"), 4, "integrity", "bundle.json was changed"),
    "a bundle of a wider encoder": ((*PREDICT, "{bad}/wider", "{image}"), 2, "fingerprint-mismatch", "encoder tiny"),
    "a bundle of another encoder": ((*PREDICT, "{bad}/reseeded", "{image}"), 2, "fingerprint-mismatch", "encoder tiny"),
    "a bundle of other weights": ((*PREDICT, "{bad}/reweighed", "{image}"), 2, "fingerprint-mismatch", "0" * 64),
    "a verb that is not there": (("xmadapter", "predic"), 2, "config", "Did you mean 'predict'"),
    "a verb without its argument": (("xmadapter", "predict"), 2, "config", "BUNDLE"),
    "a check of a broken image": (("xmadapter", "check", "{bad}/skips/encode.yaml"), 3, "data", "train/cat/cut.jpg"),
    "a sync without a sweep": (("xmadapter", "sync", "{bad}/none"), 2, "config", "{bad}/none holds no sweep"),
}  # fmt: skip

pytestmark = pytest.mark.timeout(300)  # the first test waits for the line, on a machine that may be busy


@pytest.fixture(scope="module")
def bad(tmp_path_factory, encoded, swept, exported):
    """A folder of everything a user should not have."""
    bad = tmp_path_factory.mktemp("bad")
    (bad / "torn.yaml").write_text("data: {kind: [")
    (bad / "list.yaml").write_text("- data\n- output\n")
    (bad / "file").touch()
    (bad / "empty").mkdir()
    for split in ("train", "test"):
        (bad / "hollow" / split / "cat").mkdir(parents=True)
    draw_images(bad / "testless", counts={"train": 1, "val": 1}, side=16)
    encode_config(bad / "key.yaml", bad / "empty", vews=3)
    shutil.copytree(encoded.path, bad / "half")
    (bad / "half" / "manifest-000001.json").unlink()
    manifest = shutil.copytree(encoded.path, bad / "forged") / "manifest-000001.json"
    manifest.write_text(manifest.read_text().replace('"logit_scale": 20.0', '"logit_scale": 21.0'))
    _copy_ledger(swept.path, bad / "untested", kept=lambda line: b'["final",' not in line)
    _copy_ledger(swept.path, bad / "scratched", change=lambda lines: lines[1].replace(b"0", b"1"))
    make_bad_bundles(bad, exported.path)
    make_skips(bad / "skips")
    return bad


def _copy_ledger(sweep, copy, *, kept=lambda line: True, change=lambda lines: lines[1]):
    ledger = shutil.copytree(sweep, copy) / "ledger.jsonl"
    lines = [line for line in ledger.read_bytes().splitlines(keepends=True) if kept(line)]
    lines[1] = change(lines)
    ledger.write_bytes(b"".join(lines))


def make_bad_bundles(bad, bundle):
    tensors = shutil.copytree(bundle, bad / "flipped") / "adapter.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
    card = shutil.copytree(bundle, bad / "edited") / "bundle.json"
    card.write_text(card.read_text().replace('"shots": 2', '"shots": 16'))
    for name, changes in (
        ("wider", {"dim": 48}),
        ("reseeded", {"seed": 1}),
        ("reweighed", {"weights_sha256": "0" * 64}),
    ):
        path = shutil.copytree(bundle, bad / name) / "bundle.json"
        card = unseal(BundleCard, path, advice="")
        path.write_bytes(seal(card.model_copy(update={"encoder": card.encoder.model_copy(update=changes)})))


def make_skips(folder):
    """Two classes in twelve files, of which one is a text and one is cut off."""
    files = [("train", 0), ("train", 1), ("train", 2), ("val", 4), ("test", 5)]
    for label, name in enumerate(("cat", "dog")):
        for split, number in files:
            draw_shape(folder / "images" / split / name / f"{number}.png", label, number, side=40)
    train = folder / "images" / "train"
    (train / "dog" / "notes.jpg").write_text("not an image")
    whole = draw_shape(folder / "whole.jpg", 2, 0, side=40)
    (train / "cat" / "cut.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    encode_config(folder / "encode.yaml", folder / "images")


@pytest.fixture
def places(folder, images, bad, tmp_path):
    return {
        "line": folder,
        "bad": bad,
        "new": tmp_path / "new",
        "image": next((images / "test" / CLASSES[0]).iterdir()),
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_line_that_names_it(mistake, places, desk, encoded):
    command, status, code, culprit = MISTAKES[mistake]
    before = sorted(encoded.path.rglob("*"))
    done = desk(*(word.format(**places) for word in command))
    assert done.status == status, done.err
    (error,) = done.err.splitlines()
    assert error.startswith(f"error[{code}]: ")
    assert culprit.format(**places) in error
    assert sorted(encoded.path.rglob("*")) == before


def test_an_image_that_cannot_be_read_does_not_keep_the_others_from_their_class(places, exported, desk):
    image, missing = places["image"], places["bad"] / "none.png"
    done = desk(*PREDICT, exported.path, missing, image, missing)
    assert done.status == 3
    (line,) = done.out.splitlines()
    assert re.fullmatch(rf"{image}  ({'|'.join(CLASSES)}) [01]\.\d{{3}}", line)
    assert done.err.startswith("error[data]: 2 of 3 files could not be read")


def test_without_a_verb_the_help_is_printed_line_by_line(desk):
    done = desk("xmadapter")
    assert "\nCommands:\n" in done.out + done.err
    assert done.errors == []


def test_a_mistake_in_a_sweep_begins_no_trial(places, desk):
    desk(*(word.format(**places) for word in (*SWEEP, "shots=[16]")))
    assert trial_lines(places["new"]) == 0


@pytest.fixture(scope="module")
def over_budget(bad, desk):
    return desk("pipelines.encode", "--config", bad / "skips" / "encode.yaml", "max_actors=1")


def test_unreadable_images_are_over_the_budget_and_the_rest_is_kept(bad, over_budget):
    assert over_budget.status == 8, over_budget.err
    (error,) = over_budget.errors
    assert error.startswith("error[skip-budget]: 2 of 12 samples could not be read (1 ")
    assert {"1 truncated", "1 not_image"} <= set(re.findall(r"1 \w+", error))
    assert "train/cat/cut.jpg" in error
    assert "Traceback" not in over_budget.err
    assert len(records(bad / "skips" / "features")) == 8 + 1 + 1 + 1


def test_the_budget_that_the_message_names_is_enough(bad, over_budget, desk):
    (advice,) = re.findall(r"max_skip_fraction=[\d.]+", over_budget.err)
    done = desk("pipelines.encode", "--config", bad / "skips" / "encode.yaml", "max_actors=1", advice)
    assert done.status == 0, done.err
    assert "skipped train/cat/cut.jpg: truncated\n" in done.out
    assert "skipped train/dog/notes.jpg: not_image\n" in done.out
    inspected = desk("xmadapter", "inspect", bad / "skips" / "features")
    assert "skipped   2\n" in inspected.out


@pytest.fixture(scope="module")
def corrupted(bad, encoded):
    """A copy of the features with one bit of one shard turned."""
    features = shutil.copytree(encoded.path, bad / "corrupted")
    shard = sorted((features / "shards").iterdir())[5]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    return features, shard


def test_a_corrupted_shard_is_refused_and_the_next_encode_restores_just_it(folder, encoded, corrupted, desk):
    features, shard = corrupted
    others = {path.name: path.stat().st_ino for path in shard.parent.iterdir() if path != shard}
    refused = desk("xmadapter", "verify", features)
    assert refused.status == 4
    assert refused.err.startswith(f"error[integrity]: shard {shard} sha256 differs")
    assert not shard.exists()
    done = desk("pipelines.encode", "--config", folder / "encode.yaml", f"output={features}", "max_actors=1")
    assert done.status == 0, done.err
    assert counted(r": (\d+) features computed", done.out) == (3,)
    restored = {name: data for name, data in tree(features).items() if not name.startswith("quarantine/")}
    assert restored == tree(encoded.path)
    assert others.items() <= {path.name: path.stat().st_ino for path in shard.parent.iterdir()}.items()


def test_check_counts_the_images_of_each_class(folder, desk):
    done = desk("xmadapter", "check", folder / "encode.yaml")
    assert (done.status, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert [row[-3:] for row in rows[:-1]] == [["train", "validation", "test"], *[["8", "4", "8"]] * 3]
    assert done.out.splitlines()[-1].startswith("60 images, all readable")


def test_inspect_says_what_a_store_holds(encoded, desk):
    done = desk("xmadapter", "inspect", encoded.path)
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^train +24 shards, 72 features of width 32", done.out, re.MULTILINE)
    assert re.search(r"^test +8 shards, 24 features of width 32", done.out, re.MULTILINE)
    assert re.search(r"^version +1\nencoder +.*tiny", done.out)


def test_verify_reads_every_shard(encoded, desk):
    done = desk("xmadapter", "verify", encoded.path)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{encoded.path}: 37 shards are what the manifest says\n"


@pytest.mark.parametrize("pipeline", ["encode", "sweep", "evaluate", "report", "export"])
def test_help_of_a_pipeline_shows_its_command(pipeline, desk):
    done = desk(f"pipelines.{pipeline}", "--help")
    assert (done.status, done.err) == (0, "")
    assert f"python -m pipelines.{pipeline} --config pipelines/configs/demo/{pipeline}.yaml" in done.out


def test_help_of_the_command_line_lists_its_verbs(desk):
    done = desk("xmadapter", "--help")
    assert (done.status, done.err) == (0, "")
    verbs = re.findall(r"^  ([a-z]+)  ", done.out.partition("Commands:\n")[2], re.MULTILINE)
    assert verbs == ["check", "gc", "inspect", "predict", "promote", "recall", "repair", "search", "sync", "verify"]
    for verb in verbs:
        assert desk("xmadapter", verb, "--help").out.startswith(f"Usage: xmadapter {verb} ")


def test_the_versions_agree(desk):
    from xmadapter import __version__

    assert desk("xmadapter", "--version").out == f"xmadapter, version {__version__}\n"
