"""HTML from a template beside this file, everything escaped. The only importer of jinja2."""

import base64
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from xmadapter.reports.paired import paired_bounds
from xmadapter.reports.tables import accuracy_cell
from xmadapter.reports.wording import count_of, percent, points, shots_title, visible

__all__ = ["fill"]


def fill(template: str, values: Mapping[str, object]) -> str:
    """Fill a template of this folder.

    Args:
        template: Its name, as in `page.html`.
        values: By name; one that the template asks for and that is not there is an error.
    """
    # Everything is escaped; nothing in the templates is marked safe.
    environment = Environment(
        loader=PackageLoader("xmadapter", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "percent": percent,
        "shots_title": shots_title,
        "images_title": lambda images: count_of(images, "training image"),
        "accuracy": accuracy_cell,
        "points": points,
        "inside": paired_bounds,
        "embedded": _embedded,
    }
    return environment.get_template(template).render(values)


def _embedded(png: bytes) -> str:
    """Write a picture as the address of an `img`, so that a page needs no file beside itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
