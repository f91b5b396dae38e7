"""Encoders of images and texts into one space, built from small config values where they are used."""

from xmadapter.encoders.base import (
    ImageTextEncoder,
    TowerEncoder,
    build_augment,
    build_encoder,
    build_preprocess,
    resolve_encoder,
)

__all__ = ["ImageTextEncoder", "TowerEncoder", "build_augment", "build_encoder", "build_preprocess", "resolve_encoder"]
