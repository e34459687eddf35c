"""Pages from the templates beside this file. What is no markup itself is escaped, so that no name can become one."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from deidcli.errors import MissingDependency
from deidcli.evaluation.report.plots import colours
from deidcli.evaluation.report.summary import LOOKS, interval, percent, written

if TYPE_CHECKING:
    from jinja2 import Environment

ARROWS = {"lower": ("↓", "lower is better"), "higher": ("↑", "higher is better")}


def render(template: str, **context: Any) -> str:
    """The page of a template of this package."""
    return environment().get_template(template).render(**context)


@cache
def environment() -> Environment:
    """Jinja2 with this package's templates, and what all of them use. Raises MissingDependency without Jinja2."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependency("a report needs Jinja2", "run `pip install deidcli[eval]`") from error
    loader = PackageLoader("deidcli.evaluation.report", "templates")
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_sound
    )
    looks = {**LOOKS, "broken": ("bad", "○"), "withstood": ("good", "●")}
    made.globals.update(
        arrows=ARROWS, colours=lambda night: Markup(colours(night)), css=Markup(_css()), interval=interval,
        looks=looks, percent=percent, written=written,
    )  # fmt: skip
    return made


def _css() -> str:
    return (resources.files("deidcli.evaluation.report") / "templates" / "style.css").read_text(encoding="utf-8")


def _sound(value: Any) -> Any:
    """Text as a page can hold it: a name that is no UTF-8 holds surrogates; a number and its % stay together."""
    if value is None:
        return ""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return value.encode("utf-8", "replace").decode().replace(" %", "\u00a0%")
