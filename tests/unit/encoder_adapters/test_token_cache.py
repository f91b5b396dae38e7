"""What the benchmark of cached tokens claims, in narrow towers: the same training, with less kept for the way back."""

import pytest

from benchmarks.token_cache import CAPTIONS, DEPTH, SHORT, SMALL, STEPS, TOP, compare, kept_bytes, make_pairs, memory


@pytest.mark.parametrize("captions", CAPTIONS)
def test_five_steps_from_tokens_have_the_losses_of_those_from_pixels(captions):
    found = compare(SMALL, make_pairs(SMALL, caption_ends=CAPTIONS[captions]))
    assert len(found.losses) == STEPS
    assert found.losses[-1] < 0.99 * found.losses[0]
    assert found.difference <= 1e-5


def test_tokens_and_checkpoints_keep_less_and_what_is_kept_is_counted_exactly():
    pixels = make_pairs(SMALL, caption_ends=CAPTIONS[SHORT])
    found = memory(pixels)
    last, whole = found["from pixels"]
    checkpointed, checkpointed_whole = found["from pixels, checkpointed"]
    assert checkpointed < found["from tokens"][0] < last < whole
    assert checkpointed_whole < last
    assert kept_bytes(pixels.model, pixels, first_block=DEPTH - TOP) == checkpointed
