"""xmadapter: the verbs of a person at a desk. None of them starts a cluster."""

import sys
from pathlib import Path

import click

from xmadapter import __version__
from xmadapter.config import EncodeConfig, load
from xmadapter.entry import exit_status
from xmadapter.errors import ConfigError, DataError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Adapt a vision-language model from a few labelled images."""
    del debug  # `main` reads it before click does


@cli.command()
@click.argument("bundle")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", default=1, show_default=True, type=click.IntRange(1), help="Classes to print per image.")
def predict(bundle: str, images: tuple[str, ...], top: int) -> None:
    """Print the class and probability of image files."""
    from xmadapter.bundle import load_bundle
    from xmadapter.data import BadImage, decode_image, media_uri, read_media
    from xmadapter.predict import Predictor

    predictor = Predictor(loaded := load_bundle(bundle))
    bad = []
    for path in images:
        try:
            image = decode_image(read_media(media_uri(path)))
        except BadImage as error:
            bad.append(f"{path} ({error.reason})")
            continue
        prediction = predictor.classify([image])[0]
        ranked = sorted(zip(prediction.probabilities, loaded.card.class_names, strict=True), reverse=True)[:top]
        click.echo(f"{path}  " + "  ".join(f"{name} {probability:.3f}" for probability, name in ranked))
    if bad:
        raise DataError(
            f"{len(bad)} of {len(images)} files could not be read: {', '.join(bad)}; the others are printed above"
        )


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("override", nargs=-1)
def check(config: Path, override: tuple[str, ...]) -> None:
    """Read the data set of an encode config and count its images, without encoding."""
    from tqdm import tqdm

    from xmadapter.data import decode_reasons, read_index

    encode = load(EncodeConfig, config, override)
    index = read_index(encode.data, encode.images_per_class)
    if index.class_names:
        counts = {name: [count[name] for count in index.counts().values()] for name in index.class_names}
    else:
        counts = dict(zip(("images", "captions"), zip(*index.caption_counts().values(), strict=True), strict=True))
    heading = "class" if index.class_names else ""
    width = max(len(name) for name in (*counts, heading))
    click.echo(f"{heading:{width}}" + "".join(f"{split:>12}" for split in ("train", "validation", "test")))
    for name, numbers in counts.items():
        click.echo(f"{name:{width}}" + "".join(f"{number:12d}" for number in numbers))
    ids, media = (index.table[column].to_pylist() for column in ("sample_id", "media"))
    reasons = tqdm(decode_reasons(media), total=len(media), unit="image", desc="decoding", disable=None)
    for sample_id, reason in zip(ids, reasons, strict=True):
        if reason is not None:
            raise DataError(f"{sample_id} cannot be read: {reason}; it would be skipped; mend or remove it")
    click.echo(f"{len(ids)} images, all readable; split hash and features follow from pipelines.encode")


@cli.command()
@click.argument("source")
@click.argument("query")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Rows to print.")
@click.option("--features", help="Store to search with a bundle; by default the one it was trained on.")
def search(source: str, query: str, top: int, features: str | None) -> None:
    """Print the images that a text describes, in a feature store or as a retrieval bundle sees it.

    Where QUERY is an image file, print its nearest captions.
    """
    from xmadapter.data import BadImage
    from xmadapter.search import open_searcher

    with open_searcher(source, features) as searcher:
        try:
            found = searcher.captions(query, top=top) if Path(query).is_file() else searcher.images(query, top=top)
        except BadImage as error:
            raise DataError(f"{query} cannot be read: {error.reason}") from error
    for row in found:
        click.echo(f"{row.score:.3f}  {row.content}")


@cli.command()
@click.argument("features")
@click.option("--split", default="test", show_default=True, type=click.Choice(["test", "validation"]))
def recall(features: str, split: str) -> None:
    """Measure retrieval between the images and captions of a feature store, as encoded: nothing is fitted."""
    from xmadapter.jobs import measure_recall

    report, images = measure_recall(features, split)
    click.echo(
        f"{images} images, {report.text_to_image.queries} captions, {split} split, zero-shot; % ± half the 95 % interval"
    )
    click.echo(f"{'':15}{'R@1':>13}{'R@5':>13}{'R@10':>13}{'median':>8}{'mean':>8}")
    for name, side in (("text to image", report.text_to_image), ("image to text", report.image_to_text)):
        cells = [f"{one.estimate:.1f} ±{(one.high - one.low) / 2:.1f}" for one in side.recall.values()]
        click.echo(
            f"{name:15}" + "".join(f"{cell:>13}" for cell in cells) + f"{side.median_rank:8.0f}{side.mean_rank:8.1f}"
        )


_AT_VERSION = click.option("--at-version", type=click.IntRange(1), help="An earlier commit instead of the newest.")


@cli.command()
@click.argument("features")
@_AT_VERSION
def inspect(features: str, at_version: int | None) -> None:
    """Say what a feature store holds."""
    from xmadapter.features import open_features

    store = open_features(features, at_version)
    manifest, recipe = store.manifest, store.manifest.recipe
    click.echo(f"version   {store.version}")
    click.echo(f"encoder   {recipe.encoder.model_dump_json(exclude_none=True)}")
    click.echo(f"classes   {len(recipe.class_names)}; prompts {list(recipe.prompts)}")
    for split in ("train", "validation", "test", None):
        shards = manifest.of(split)
        size = sum(shard.size_bytes for shard in shards) / 2**20
        rows = sum(shard.rows for shard in shards)
        click.echo(
            f"{split or 'text':<10}{len(shards)} shards, {rows} features of width {manifest.dim}, {size:.1f} MiB"
        )
    click.echo(f"skipped   {len(manifest.skipped)}")
    click.echo(f"plan      {manifest.plan_fingerprint}\nsplit     {manifest.split_hash}")


@cli.command()
@click.argument("features")
@_AT_VERSION
@click.option("--sources", is_flag=True, help="Also read every source image again and compare its hash.")
def verify(features: str, at_version: int | None, sources: bool) -> None:
    """Check every byte of a feature store against its manifest."""
    from tqdm import tqdm

    from xmadapter.features import open_features
    from xmadapter.features import verify as verified
    from xmadapter.jobs import check_sources

    store = open_features(features, at_version)
    total = sum(shard.size_bytes for shard in store.manifest.shards)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verifying", disable=None) as bar:
        for shard in verified(store):
            bar.update(shard.size_bytes)
    click.echo(f"{features}: {len(store.manifest.shards)} shards are what the manifest says")
    if sources:
        click.echo(f"{features}: {check_sources(store)} source images are what was encoded")


@cli.command()
@click.argument("features")
def repair(features: str) -> None:
    """Put damaged files of a feature store aside and mend what needs no encoder."""
    from xmadapter.features import repair as repaired

    found = repaired(features)
    for reason in found.damaged:
        click.echo(reason)
    click.echo(f"{features}: {len(found.damaged)} files in quarantine, {found.records} records written anew")
    if found.damaged or found.missing:
        click.echo(
            f"{found.missing} shards to restore: run pipelines.encode again with the same config, it encodes only those"
        )


@cli.command()
@click.argument("features")
@click.option("--days", default=7.0, show_default=True, type=click.FloatRange(0), help="Keep what is younger.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(features: str, days: float, dry_run: bool) -> None:
    """Delete what no version of a feature store names any more: orphans, replaced shards, expired versions, quarantine."""
    from xmadapter.features import collect

    gone = collect(features, grace_s=days * 86_400, dry_run=dry_run)
    for name in gone:
        click.echo(name)
    click.echo(f"{features}: {len(gone)} files {'would be deleted' if dry_run else 'deleted'}")


@cli.command()
@click.argument("sweep")
def sync(sweep: str) -> None:
    """Deliver what MLflow has not received of a sweep."""
    from xmadapter.jobs import sync as deliver

    click.echo(f"{sweep}: everything is at {deliver(sweep)}")


@cli.command()
@click.argument("sweep")
@click.argument("bundle")
def promote(sweep: str, bundle: str) -> None:
    """Register a bundle in MLflow, as champion of its data set and backbone if it is better than the present one."""
    from xmadapter.promotion import promote as promoted
    from xmadapter.reports.wording import points

    done = promoted(sweep, bundle)
    if done.before == done.version:
        click.echo(f"{bundle} is {done.model} v{done.version}, the champion, already")
    elif done.difference is None:
        click.echo(f"{bundle} is {done.model} v{done.version}, the first champion")
    else:
        gain = points(done.difference.estimate)
        click.echo(f"{bundle} is {done.model} v{done.version}, the champion: {gain} points over v{done.before}")


def main() -> None:
    """Run the command line; the exit status tells the kind of error."""
    sys.exit(exit_status(_run, "--debug" in sys.argv))


def _run() -> None:
    try:
        cli.main(prog_name="xmadapter", standalone_mode=False)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        raise ConfigError(f"{error.format_message()} (xmadapter --help)") from error
