"""Prompt templates, and class names made fit for them."""

import unicodedata
from collections.abc import Sequence

from xmadapter.errors import ConfigError

__all__ = ["clean_class_name", "fill_prompts"]


def clean_class_name(name: str) -> str:
    """Turn a folder name into words: underscores and runs of white space become single spaces.

    The text is composed (Unicode NFC), since a tokenizer reads the two spellings of an accented letter differently and some
    file systems store only one of them.

    Example:
        >>> clean_class_name("golden_retriever")
        'golden retriever'
    """
    return " ".join(unicodedata.normalize("NFC", name.replace("_", " ")).split())


def fill_prompts(templates: Sequence[str], class_names: Sequence[str]) -> list[list[str]]:
    """Put each class name into each template.

    Args:
        templates: Texts with exactly one `{}`.
        class_names: Names, taken as they are; braces in a name mean nothing.

    Returns:
        Prompts as [classes][prompts], in the order given.

    Raises:
        ConfigError: A template has no `{}` or several.

    Example:
        >>> fill_prompts(["a {}.", "the {}."], ["cat"])
        [['a cat.', 'the cat.']]
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"prompt {template!r} needs exactly one {{}} for the class name")
    return [[template.replace("{}", name) for template in templates] for name in class_names]
