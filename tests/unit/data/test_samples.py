"""The sample index and its rules."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmadapter.data import INDEX_SCHEMA, Sample, SampleIndex, build_index
from xmadapter.data.samples import require_captions, require_usable
from xmadapter.errors import DataError

CLASSES = ("cat", "dog")
ROWS = [
    Sample("a", "train", "a.jpg", 0),
    Sample("b", "train", "b.jpg", 1, ("a dog", "one dog")),
    Sample("c", "validation", "c.jpg", 0),
    Sample("d", "test", "d.jpg", 1),
]


@given(st.permutations(ROWS))
def test_the_order_of_samples_does_not_matter(rows: list[Sample]) -> None:
    assert build_index(rows, CLASSES) == build_index(ROWS, CLASSES)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True))
def test_any_ids_end_in_the_order_of_their_bytes(names: list[str]) -> None:
    index = build_index([Sample(name, "train", "m", 0) for name in names], CLASSES)
    assert index.table["sample_id"].to_pylist() == sorted(names, key=str.encode)


def test_two_samples_with_one_id_are_refused_naming_both() -> None:
    with pytest.raises(DataError, match=r"'a'.*a\.jpg and other\.jpg"):
        build_index([*ROWS, Sample("a", "test", "other.jpg", 0)], CLASSES)


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"dev.*train, validation, test"):
        build_index([ROWS[0]._replace(split="dev")], CLASSES)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_class_name_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=f"2 class names; got {label}"):
        build_index([ROWS[0]._replace(label=label)], CLASSES)


CAPTIONED = [
    Sample("a", "train", "a.jpg", -1, ("a cat", "one cat")),
    Sample("b", "train", "b.jpg", -1),
    Sample("c", "validation", "c.jpg", -1, ("a dog",)),
    Sample("d", "test", "d.jpg", -1, ("an owl",)),
]


@pytest.mark.parametrize("label", [0, -2])
def test_a_label_where_there_are_no_classes_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=f"without class names every label is -1; got {label}"):
        build_index([CAPTIONED[0]._replace(label=label)], ())


def test_images_and_captions_are_counted_by_split() -> None:
    index = build_index(CAPTIONED, ())
    assert index.caption_counts() == {"train": (2, 2), "validation": (1, 1), "test": (1, 1)}
    assert build_index([], ()).caption_counts() == dict.fromkeys(("train", "validation", "test"), (0, 0))


def test_captions_without_classes_are_usable_when_each_split_has_some() -> None:
    index = build_index(CAPTIONED, ())
    assert require_captions(index, source="pairs") is index
    assert index.counts() == {"train": {}, "validation": {}, "test": {}}


@pytest.mark.parametrize("kept", [CAPTIONED[:3], [*CAPTIONED[:3], CAPTIONED[3]._replace(captions=())]])
def test_a_split_without_captions_is_not_usable(kept: list[Sample]) -> None:
    with pytest.raises(DataError, match=r"^pairs: the test split has [01] images with 0 captions[^\n]*$"):
        require_captions(build_index(kept, ()), source="pairs")


def test_captions_alone_are_no_classification() -> None:
    with pytest.raises(DataError, match="needs at least 2 classes, got 0"):
        require_usable(build_index(CAPTIONED, ()), source="pairs")


def test_class_names_that_appear_twice_are_refused() -> None:
    with pytest.raises(DataError, match="twice: cat"):
        build_index(ROWS, ("cat", "cat"))


def test_another_schema_is_refused_with_both_sides() -> None:
    with pytest.raises(DataError, match=r"sample_id: string.*got name: string"):
        SampleIndex(pa.table({"name": ["a"]}), CLASSES)


def test_rows_out_of_order_are_refused() -> None:
    table = build_index(ROWS, CLASSES).table
    with pytest.raises(DataError, match="'d' comes before 'c'"):
        SampleIndex(table.take([3, 2]), CLASSES)


def test_empty_cells_are_refused() -> None:
    table = build_index(ROWS, CLASSES).table
    holed = table.set_column(2, INDEX_SCHEMA.field("media"), pa.array(["a", None, "c", "d"]))
    with pytest.raises(DataError, match=r"no empty cells.*media"):
        SampleIndex(holed, CLASSES)


def test_a_selection_keeps_the_rows_of_one_split_and_all_class_names() -> None:
    chosen = build_index(ROWS, CLASSES).select("train")
    assert chosen.table["sample_id"].to_pylist() == ["a", "b"]
    assert chosen.class_names == CLASSES


def test_counts_hold_every_split_and_class() -> None:
    assert build_index(ROWS, CLASSES).counts() == {
        "train": {"cat": 1, "dog": 1},
        "validation": {"cat": 1, "dog": 0},
        "test": {"cat": 0, "dog": 1},
    }


@pytest.mark.parametrize(
    "change",
    [{"sample_id": "z"}, {"split": "test"}, {"label": 1}, {"captions": ("a cat",)}],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_follows_what_a_row_says(change: dict[str, object]) -> None:
    changed = build_index([ROWS[0]._replace(**change), *ROWS[1:]], CLASSES)
    assert changed.fingerprint != build_index(ROWS, CLASSES).fingerprint


def test_the_fingerprint_follows_the_class_names() -> None:
    assert build_index(ROWS, CLASSES).fingerprint != build_index(ROWS, CLASSES[::-1]).fingerprint


def test_a_moved_data_set_keeps_its_fingerprint() -> None:
    moved = build_index([row._replace(media=f"/elsewhere/{row.media}") for row in ROWS], CLASSES)
    assert moved.fingerprint == build_index(ROWS, CLASSES).fingerprint


def _many(ids: range, *, captions: bool = False) -> SampleIndex:
    splits = ("train", "train", "validation", "test")
    rows = [
        Sample(f"{number:03d}", splits[number % 4], "m.jpg", -1 if captions else number // 4 % 2, ("a dog",))
        for number in ids
    ]
    return build_index(rows, () if captions else CLASSES)


def test_thinning_leaves_so_many_of_each_class_and_every_test_image() -> None:
    thinned = _many(range(80)).thin(3)
    assert thinned.counts() == {
        "train": {"cat": 3, "dog": 3},
        "validation": {"cat": 3, "dog": 3},
        "test": {"cat": 10, "dog": 10},
    }


def test_thinning_to_more_keeps_what_thinning_to_fewer_kept() -> None:
    ids = [set(_many(range(80)).thin(count).table["sample_id"].to_pylist()) for count in (1, 4, 7, 100)]
    assert ids[0] < ids[1] < ids[2] < ids[3] == {f"{number:03d}" for number in range(80)}


def test_thinning_keeps_no_other_images_for_new_ones_of_another_class() -> None:
    few = _many(range(80)).thin(2).table
    dogs = build_index([Sample(f"x{n}", "train", "m.jpg", 1) for n in range(9)], CLASSES).table
    more = SampleIndex(pa.concat_tables([_many(range(80)).table, dogs]), CLASSES).thin(2).table
    kept = [{row["sample_id"] for row in table.to_pylist() if row["label"] == 0} for table in (few, more)]
    assert kept[0] == kept[1]


def test_captions_have_no_classes_to_thin_out() -> None:
    with pytest.raises(DataError, match="images_per_class"):
        _many(range(8), captions=True).thin(1)
