"""Class names made fit for prompt templates."""

import unicodedata

__all__ = ["clean_class_name"]


def clean_class_name(name: str) -> str:
    """Turn a folder name into words: underscores and runs of white space become single spaces.

    The text is composed (Unicode NFC), since a tokenizer reads the two spellings of an accented letter differently and some
    file systems store only one of them.

    Example:
        >>> clean_class_name("golden_retriever")
        'golden retriever'
    """
    return " ".join(unicodedata.normalize("NFC", name.replace("_", " ")).split())
