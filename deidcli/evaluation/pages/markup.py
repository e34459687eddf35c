"""Markup: elements of HTML as values. Whatever is not an element itself is escaped, so that no name can become one."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from deidcli.evaluation.pages.style import CSS

VOID = frozenset(["br", "img", "meta", "hr"])


class Html(str):
    """Text that is markup already."""


Child = str | Iterable[str] | None


def e(tag: str, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. A child is an element, text that gets escaped, several of them, or None for nothing.

    attributes: `class_` stands for class, `aria_label` for aria-label; True for a bare one, None and False for none.
    """
    said = "".join(_attribute(name, value) for name, value in attributes.items())
    return Html(f"<{tag}{said}>" if tag in VOID else f"<{tag}{said}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Html:
    """Several children as one."""
    return Html("".join(_text(child) for child in children))


def table(head: Sequence[Child], rows: Iterable[Sequence[Child]], caption: str, hidden: bool = False) -> Html:
    """A table in a box of its own that scrolls where it is too wide. The first cell of a row is its header.

    caption: what it shows; hidden: only for those who hear the page, where a heading above says the same.
    """
    top = e("tr", (e("th", cell, scope="col") for cell in head))
    body = (e("tr", e("th", row[0], scope="row"), (_cell(cell) for cell in row[1:])) for row in rows)
    title = e("caption", caption, class_="unseen" if hidden else None)
    return scrolling(e("table", title, e("thead", top), e("tbody", body)), caption)


def scrolling(inner: Html, label: str) -> Html:
    """A box that scrolls sideways by itself; the keyboard reaches it."""
    return e("div", inner, class_="scroll", role="region", aria_label=label, tabindex=0)


def section(name: str, title: str, *children: Child) -> Html:
    """A section with a heading; nothing where it has no content."""
    inner = joined(*children)
    return e("section", e("h2", title, id=name), inner, aria_labelledby=name) if inner else Html("")


def page(title: str, *children: Child) -> str:
    """A whole document: self-contained, without scripts."""
    # Nothing is fetched, whatever a browser would guess or a later hand adds.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = e("head",
             e("meta", charset="utf-8"), e("meta", http_equiv="Content-Security-Policy", content=policy),
             e("meta", name="viewport", content="width=device-width, initial-scale=1"),
             e("meta", name="color-scheme", content="light dark"), e("meta", name="robots", content="noindex"),
             e("title", title), e("style", Html(CSS)))  # fmt: skip
    return f"<!doctype html>\n{e('html', head, e('body', e('main', *children)), lang='en')}\n"


def _cell(cell: Child) -> Html:
    return e("td", cell)


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    plain = isinstance(child, str)
    return html.escape(_sound(child).replace(" %", "\u00a0%")) if plain else "".join(_text(c) for c in child)


def _sound(text: str) -> str:
    # A name that is no UTF-8 holds surrogates, which no page can.
    return text.encode("utf-8", "replace").decode()


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(_sound(str(value)))}"'
