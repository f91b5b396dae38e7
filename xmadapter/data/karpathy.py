"""Read the captions of COCO or Flickr30k from a JSON file with Karpathy's splits."""

from pydantic import BaseModel, ValidationError

from xmadapter.config.data import KarpathyData
from xmadapter.data.captions import clean_captions
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import Listed, locate, read_list, require_any_file, require_once, require_root
from xmadapter.data.samples import NO_LABEL, SPLIT_NAMES, Sample, SampleIndex, build_index, require_captions
from xmadapter.errors import DataError

__all__ = ["read_karpathy"]

_RESTVAL = "restval"


class _Sentence(BaseModel):
    raw: str


class _Image(BaseModel):
    imgid: int
    filename: str
    split: str
    sentences: tuple[_Sentence, ...]
    filepath: str = ""

    @property
    def name(self) -> str:
        return f"{self.filepath}/{self.filename}" if self.filepath else self.filename


class _File(BaseModel):
    images: tuple[_Image, ...]


def read_karpathy(config: KarpathyData) -> SampleIndex:
    """Read images with their captions; there are no classes.

    An id is FILEPATH/FILENAME for COCO (`val2014/COCO_val2014_000000391895.jpg`) and FILENAME for Flickr30k, below
    `config.root`. COCO's split `restval` counts as train, as nearly all publications have it. Some images of COCO have more
    than five captions; `config.captions_per_image` keeps the first ones only, and a report should say which was used. An image
    that is not there stays in the index: whoever decodes it skips it with a reason.

    Raises:
        ConfigError: The file or the folder of images does not exist, or holds none of the images.
        DataError: The file is no such JSON, an image is in it twice, has no caption, an unknown split or a name that leads out
            of the folder; or a split has no images.
    """
    path = any_path(config.path)
    source = printable(path)
    root = require_root(config.root)
    images = [image for image in _images(path, source) if image.split != _RESTVAL or config.restval]
    listed = [locate(image.name, folder=root, source=source, where=f"image {image.imgid}") for image in images]
    require_once(listed, source=source)
    samples = [_sample(place, image, config, source) for place, image in zip(listed, images, strict=True)]
    index = require_captions(build_index(samples, ()), source=source)
    require_any_file(listed, folder=root)
    return index


def _images(path: AnyPath, source: str) -> tuple[_Image, ...]:
    try:
        return _File.model_validate_json(read_list(path, setting="path")).images
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = printable(".".join(str(step) for step in fault["loc"])) or "the whole"
        raise DataError(
            f"{source}: {where}: {printable(fault['msg'])}; expected images, each with imgid, filename, split and sentences"
        ) from error


def _sample(place: Listed, image: _Image, config: KarpathyData, source: str) -> Sample:
    split = SPLIT_NAMES.get("train" if image.split == _RESTVAL else image.split)
    if split is None:
        known = ", ".join(sorted({*SPLIT_NAMES, _RESTVAL}))
        raise DataError(f"{source}: {place.where} has split {printable(image.split)!r}; known are {known}")
    captions = clean_captions(sentence.raw for sentence in image.sentences)[: config.captions_per_image]
    if not captions:
        raise DataError(f"{source}: {place.where} ({place.sample_id!r}) has no caption; add one or remove the image")
    return Sample(place.sample_id, split, place.media, NO_LABEL, captions)
