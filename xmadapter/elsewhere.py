"""The final test on what an adapter was not made for: shifted images of its classes, or classes of which it saw no image."""

from dataclasses import dataclass

import torch
from pydantic import Field

from xmadapter.adapters import FeatureAdapter, unseen_logits
from xmadapter.config import Frozen
from xmadapter.errors import DataError, FingerprintMismatch, some
from xmadapter.evaluation import Interval, accuracy, seed_interval
from xmadapter.features import TestSet, TextBank, TuningData

__all__ = ["Elsewhere", "ElsewhereResult", "check_elsewhere", "score_elsewhere"]

_CHUNK = 4096


@dataclass(frozen=True)
class Elsewhere:
    """A test split that is not that of the tuning data.

    Args:
        name: As it is reported.
        test: Its images.
        text: Its classes.
    """

    name: str
    test: TestSet
    text: TextBank


class ElsewhereResult(Frozen):
    """One choice on a test split elsewhere."""

    name: str
    unseen: bool = Field(description="Whether the adapter saw no image of these classes.")
    test: tuple[float, ...] = Field(description="Accuracy in [0, 1], per seed.")
    interval: Interval = Field(description="Of the mean over seeds, by Student's t.")
    test_rows: int
    digest: str = Field(description="Of ids and labels of the test split.")


def check_elsewhere(data: TuningData, name: str, *, encoder_fingerprint: str, class_names: tuple[str, ...]) -> None:
    """Refuse a store that cannot be compared, before anything of it is read.

    Raises:
        FingerprintMismatch: It was encoded by another encoder.
        DataError: Some of its classes are trained and some are not.
    """
    if encoder_fingerprint != data.provenance.encoder_fingerprint:
        raise FingerprintMismatch(
            f"{name} was encoded by {encoder_fingerprint[:12]}, the sweep's features by "
            f"{data.provenance.encoder_fingerprint[:12]}; nothing was scored; encode it with the same encoder"
        )
    strange = [other for other in class_names if other not in data.text.class_names]
    if strange and len(strange) < len(class_names):
        raise DataError(
            f"{name} has {len(strange)} of {len(class_names)} classes that were not trained ({some(strange)}); nothing was "
            "scored; its classes must all be trained ones, or all others"
        )


@torch.no_grad()
def score_elsewhere(
    adapter: FeatureAdapter, class_names: tuple[str, ...], elsewhere: Elsewhere, *, seeds: int
) -> ElsewhereResult:
    """Score a fitted adapter on a test split elsewhere, among the classes that exist there.

    Args:
        adapter: Fitted.
        class_names: What it was fitted to, in the order of its logits.
        elsewhere: Checked by `check_elsewhere`.
        seeds: Length of the adapter's leading axis.

    Raises:
        DataError: The test split is empty.
    """
    if not len(elsewhere.test.data):
        raise DataError(f"the test split of {elsewhere.name} holds no image; nothing was scored")
    place = {name: number for number, name in enumerate(class_names)}
    known = [place[name] for name in elsewhere.text.class_names if name in place]
    device = adapter.logit_scale.device
    text = torch.tensor(elsewhere.text.class_features, device=device)
    chunks = torch.tensor(elsewhere.test.data.features[:, 0])[None].split(_CHUNK, dim=1)
    answers = [
        (adapter(rows)[..., known] if known else unseen_logits(adapter, rows, text)).cpu()
        for rows in (chunk.to(device) for chunk in chunks)
    ]
    logits = torch.cat(answers, dim=1)
    scores = tuple(accuracy(logits.expand(seeds, -1, -1), torch.from_numpy(elsewhere.test.data.labels)).tolist())
    return ElsewhereResult(
        name=elsewhere.name,
        unseen=not known,
        test=scores,
        interval=seed_interval(scores),
        test_rows=len(elsewhere.test.data),
        digest=elsewhere.test.digest,
    )
