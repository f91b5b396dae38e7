"""Retrieval: ranks by definition, ties against the model and both conventions."""

import pytest
import torch

from tests.reference import slow_retrieval as slow
from xmadapter.evaluation import retrieval
from xmadapter.evaluation.retrieval import (
    dual_softmax,
    evaluate_retrieval,
    report_retrieval,
    retrieval_ranks,
    table_scores,
)

RAGGED = torch.tensor([2, 0, 1, 0, 2, 2, 3, 1])  # texts in any order, one to three an image


def drawn_table(texts: int = 8, images: int = 4, *, levels: int = 5, seed: int = 0) -> torch.Tensor:
    """Scores of few levels, so that there are many ties."""
    return torch.randint(levels, (texts, images), generator=torch.Generator().manual_seed(seed)) / levels


@pytest.fixture(params=[1, 3, 1024])
def block_size(request, monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS_AT_ONCE", request.param)


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_ranks_are_those_of_the_definition(seed, levels):
    table = drawn_table(levels=levels, seed=seed)
    scores, owners = table.tolist(), RAGGED.tolist()
    caption, group = (
        retrieval_ranks(table_scores(table), RAGGED, convention=convention) for convention in ("caption", "group")
    )
    assert caption.text_to_image.tolist() == [slow.text_rank(scores, owners, text) for text in range(8)]
    assert caption.image_to_text.tolist() == [slow.image_rank(scores, owners, image) for image in range(4)]
    assert group.image_to_text.tolist() == [slow.group_rank(scores, owners, image) for image in range(4)]
    assert torch.equal(group.text_to_image, caption.text_to_image)


def test_a_report_by_hand():
    table = torch.tensor([[0.9, 0.9, 0.1], [0.2, 0.8, 0.3], [0.4, 0.5, 0.6], [0.95, 0.2, 0.1]])
    # Text 0 ties with image 1, text 3 belongs to image 2 and is last; image 0 loses to text 3, image 1 to its tie with text 0.
    report = report_retrieval(retrieval_ranks(table_scores(table), torch.tensor([0, 1, 2, 2])), ks=(1, 2))
    assert {k: one.estimate for k, one in report.text_to_image.recall.items()} == {1: 50, 2: 75}
    assert (report.text_to_image.median_rank, report.text_to_image.mean_rank) == (1.5, 7 / 4)
    assert {k: round(one.estimate, 6) for k, one in report.image_to_text.recall.items()} == {1: 33.333333, 2: 100}
    assert (report.image_to_text.median_rank, report.image_to_text.queries) == (2, 3)
    assert report.recall_sum == pytest.approx(50 + 75 + 100 / 3 + 100)


@pytest.mark.parametrize("convention", ["caption", "group"])
@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_constant_table_gets_no_recall(value, convention):
    ranks = retrieval_ranks(table_scores(torch.full((8, 4), value)), RAGGED, convention=convention)
    assert ranks.text_to_image.tolist() == [4] * 8
    assert ranks.image_to_text.tolist() == ([4] * 4 if convention == "group" else [7, 7, 6, 8])


def test_one_score_that_is_not_a_number_counts_against_the_model():
    table = torch.eye(4)
    assert retrieval_ranks(table_scores(table), torch.arange(4)).text_to_image.tolist() == [1, 1, 1, 1]
    table[0, 3] = float("nan")
    ranks = retrieval_ranks(table_scores(table), torch.arange(4))
    assert ranks.text_to_image.tolist() == [2, 1, 1, 1]
    assert ranks.image_to_text.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("count", [7, 33, 257])
def test_embeddings_that_collapsed_to_a_point_get_no_recall(count):
    point = torch.randn(1, 51, generator=torch.Generator().manual_seed(count))
    report = evaluate_retrieval(point.repeat(count, 1), point.repeat(count, 1), torch.arange(count), ks=(1,))
    assert report.recall_sum == 0
    assert report.text_to_image.mean_rank == report.image_to_text.mean_rank == count


@pytest.mark.parametrize("seed", range(4))
def test_the_conventions_agree_on_recall_at_1_and_not_on_mean_rank(seed):
    table = drawn_table(60, 20, levels=50, seed=seed)
    owners = torch.arange(20).repeat(3)
    caption, group = (
        report_retrieval(retrieval_ranks(table_scores(table), owners, convention=convention)).image_to_text
        for convention in ("caption", "group")
    )
    assert caption.recall[1] == group.recall[1]
    assert caption.mean_rank > group.mean_rank


def test_recall_rises_with_k_to_100_and_lies_in_its_interval():
    report = report_retrieval(
        retrieval_ranks(table_scores(drawn_table(60, 20)), torch.arange(20).repeat(3)), ks=range(1, 61)
    )
    for side in (report.text_to_image, report.image_to_text):
        recalls = [side.recall[k] for k in range(1, 61)]
        assert recalls == sorted(recalls, key=lambda one: one.estimate)
        assert recalls[-1].estimate == 100
        assert all(one.low <= one.estimate <= one.high for one in recalls)


def test_an_interval_draws_the_texts_of_an_image_together():
    texts_agree, texts_differ = torch.zeros(40, 8), torch.zeros(40, 8)
    owners = torch.arange(8).repeat_interleave(5)
    texts_agree[torch.arange(20), owners[:20]] = 1  # all texts of half of the images are right
    half = torch.arange(0, 40, 2)
    texts_differ[half, owners[half]] = 1  # half of the texts, of every image
    widths = []
    for table in (texts_agree, texts_differ):
        found = report_retrieval(retrieval_ranks(table_scores(table), owners), ks=(1,)).text_to_image.recall[1]
        assert found.estimate == 50
        widths.append(found.high - found.low)
    assert widths[0] > 3 * widths[1]


def test_features_may_have_any_length_and_precision():
    generator = torch.Generator().manual_seed(0)
    text, image = (torch.randn(count, 16, generator=generator).half() for count in (8, 4))
    lengths = torch.rand(8, 1, generator=generator).half() + 1
    plain, scaled = (
        retrieval_ranks(retrieval.cosine_scores(one, image), RAGGED) for one in (text, text.float() * lengths)
    )
    assert torch.equal(plain.text_to_image, scaled.text_to_image)


@pytest.mark.parametrize("owners", [[0, 2], []])
def test_an_image_without_a_text_is_refused(owners):
    with pytest.raises(ValueError, match="every image needs a text"):
        retrieval_ranks(table_scores(torch.zeros(len(owners), 3)), torch.tensor(owners, dtype=torch.int64))


def test_dual_softmax_multiplies_by_a_softmax_over_the_queries():
    table = drawn_table(6, 4, levels=100) + 0.1
    for queries, axis in (("texts", 0), ("images", 1)):
        weighted = dual_softmax(table, queries=queries, logit_scale=20.0)
        shares = weighted / table
        torch.testing.assert_close(shares.sum(dim=axis), torch.ones(table.shape[1 - axis]))
    hub = torch.tensor([[0.5, 0.6], [0.1, 0.9]])  # every text likes image 1
    ranks = [
        retrieval_ranks(table_scores(one), torch.arange(2)).text_to_image
        for one in (hub, dual_softmax(hub, queries="texts"))
    ]
    assert [one.tolist() for one in ranks] == [[2, 1], [1, 1]]


def test_scores_are_asked_for_in_blocks_that_hold_all_texts_of_an_image_or_none():
    owners = torch.arange(700).repeat(5)
    blocks = []

    def scores(rows: torch.Tensor) -> torch.Tensor:
        blocks.append(rows)
        return torch.eye(700)[owners[rows]]

    ranks = retrieval_ranks(scores, owners)
    assert ranks.text_to_image.eq(1).all()
    assert ranks.image_to_text.eq(1).all()
    assert len(blocks) == 2 * 4
    assert max(map(len, blocks)) < 1024 + 5
    for rows in blocks:
        assert owners[rows].unique(return_counts=True)[1].eq(5).all()
