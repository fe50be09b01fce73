"""How verdicts look: a card for a row of the ledger, the scoreboard of many, and lines for a terminal.

Cards and scoreboard are HTML for the book's pages; `book/_static/verdicts.css` gives them colours, and `verdicts.js`
lets the scoreboard be filtered. Colour never stands alone: each verdict has a sign and its words too.
"""

import html
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from IPython.display import HTML

from glowkit.book import claims, formulas
from glowkit.book.claims import Entry, Row
from glowkit.intervals import Estimate, unbroken
from glowkit.replications import across
from glowkit.replications.results import Result, open_replications

STYLES = {
    "reproduced": ("reproduced", "✓"),
    "reproduced with a correction": ("corrected", "≈"),
    "contradicted": ("contradicted", "×"),
    claims.UNDECIDED: ("undecided", "?"),
    "wrong in the source": ("wrong", "!"),
    claims.OPEN: ("open", "–"),
}
"""Of each verdict: the class that the style sheet knows it by, and the sign in its dot."""
_SHORT = {"reproduced with a correction": "with a correction"}


def card(entries: Sequence[Entry]) -> str:
    """One row of the ledger as HTML: verdict, claim, reason, the models side by side, and the numbers on a click.

    entries: of one row, one for each model, that of the page first.
    """
    row = claims.rows()[entries[0].id]
    verdicts = list(dict.fromkeys(entry.verdict for entry in entries))
    badges = "".join(_badge(verdict) for verdict in verdicts)
    return (
        f'<div class="verdict-card {STYLES[verdicts[0]][0]}" role="group" aria-label="{row.id}: {", ".join(verdicts)}">'
        f'<p class="verdict-head"><b>{row.id}</b> {badges} <span class="verdict-source">{_source(row)}</span></p>'
        f'<p class="verdict-claim">{formulas.html(row.claim)}</p>'
        f'{_models(entries)}<details class="verdict-numbers"><summary>Numbers</summary>{_numbers(entries)}</details>'
        "</div>"
    )


def scoreboard(entries: Iterable[Entry] | None = None) -> HTML:
    """All rows, or those of these entries: findings, then checks, one line a row with a dot for each model."""
    found = by_row(claims.load() if entries is None else entries)
    kinds = (("Findings", claims.FINDING), ("Checks of the mathematics and of our software", claims.CHECK))
    lists = {title: [r for id, r in found.items() if claims.rows()[id].kind == kind] for title, kind in kinds}
    shown = [(title, rows) for title, rows in lists.items() if rows]
    models = _columns(entry for rows in found.values() for entry in rows)
    return HTML("".join(_board(title, rows, models) for title, rows in shown))


def by_row(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries of each row, in the order that they come in; of a model that comes twice, the first."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        found.setdefault(entry.id, {}).setdefault(entry.model, entry)
    return {id: list(models.values()) for id, models in found.items()}


def dots(entries: Iterable[Entry]) -> str:
    """A dot for each entry, as HTML within a line, which keeps them together."""
    return f'<span class="verdict-dots">{"".join(_dot(entry) for entry in entries)}</span>'


def lines(entries: Iterable[Entry], width: int = 100) -> str:
    """The ledger for a terminal: of each row the claim, and beneath it a line for each model."""
    rows = by_row(entries)
    names = max(len(_model(entry)) for found in rows.values() for entry in found)
    words = max(map(len, STYLES))
    paragraphs = []
    for id, found in rows.items():
        claim = textwrap.wrap(formulas.plain(claims.rows()[id].claim), width - 12)
        head = [f"{id:<12}{claim[0]}", *(f"{'':12}{line}" for line in claim[1:])]
        told = [f"  {_model(e):<{names}}  {e.verdict:<{words}}  {_brief(e)}".rstrip() for e in found]
        paragraphs.append("\n".join([*head, *told]))
    return "\n\n".join(paragraphs)


def _board(title: str, rows: Sequence[Sequence[Entry]], models: Sequence[str]) -> str:
    heads = "".join(f"<span>{html.escape(model)}</span>" for model in models)
    return (
        f'<div class="verdict-board" data-title="{title}" style="--models: {len(models)}">'
        f'<p class="verdict-title">{title}</p><p class="verdict-columns" aria-hidden="true">'
        f"<span>row</span><span>claim</span>{heads}</p>"
        f"<ul>{''.join(_line(entries, models) for entries in rows)}</ul></div>"
    )


def _line(entries: Sequence[Entry], models: Sequence[str]) -> str:
    entries = sorted(entries, key=lambda entry: [*models, entry.model].index(entry.model))
    row = claims.rows()[entries[0].id]
    found = {entry.model: entry for entry in entries}
    if set(found) <= set(models):
        chips = "".join(_chip(found[model]) if model in found else "<span></span>" for model in models)
    else:  # of no model, or of all together
        chips = "".join(_chip(entry, " verdict-wide") for entry in entries)
    page = f"{row.chapter}.html"
    verdicts = list(dict.fromkeys(entry.verdict for entry in entries))
    figure = "" if entries[0].ci is None else f' and <a href="{page}#{html.escape(entries[0].figure)}">figure</a>'
    return (
        f'<li class="{STYLES[verdicts[0]][0]}" data-verdicts="{" ".join(STYLES[v][0] for v in verdicts)}" '
        f'data-chapter="{row.chapter}"><a class="verdict-id" href="{page}#{row.section}">{row.id}</a>'
        f"<details><summary><span>{formulas.html(row.claim)}</span>{chips}</summary>{_models(entries)}"
        f'<p class="verdict-source">{_source(row)}; <a href="{page}#{row.section}">section</a>{figure}</p>'
        f"{_numbers(entries)}</details></li>"
    )


def _columns(entries: Iterable[Entry]) -> list[str]:
    """The models that have a column: those with more than one row, the one with the most rows first."""
    rows = Counter(entry.model for entry in entries)
    own = [model for model in rows if model not in ("", claims.NO_MODEL) and rows[model] > 1]
    return sorted(own, key=lambda model: (-rows[model], model))


def _models(entries: Sequence[Entry]) -> str:
    """Why, and each model's number; verdict and reason once where all agree, else beside each model."""
    reasons = [formulas.html(claims.reason(entry)) for entry in entries]
    if len(set(reasons)) == 1:
        told, items = f"<p>{reasons[0]}</p>", [""] * len(entries)
    else:
        told = ""
        items = [f" {e.verdict}<span>{why}</span>" for e, why in zip(entries, reasons, strict=True)]
    lines = "".join(
        f"<li>{_dot(entry)}<span><b>{html.escape(_model(entry) or 'not measured')}</b>{item}"
        f'<span class="verdict-brief">{_brief(entry)}</span></span></li>'
        for entry, item in zip(entries, items, strict=True)
    )
    return f'{told}<ul class="verdict-models">{lines}</ul>'


def _numbers(entries: Sequence[Entry]) -> str:
    row = claims.rows()[entries[0].id]
    lists = "".join(
        f"<div><p><b>{html.escape(_model(entry))}</b></p><dl>{_list(_facts(entry))}</dl></div>"
        for entry in entries
        if entry.ci is not None
    )
    told = _list([("Measure", formulas.html(row.measure)), ("Rule", html.escape(_rule(row))), *_seeds(row.id)])
    return f'<div class="verdict-facts"><dl>{told}</dl>{lists}</div>'


def _seeds(id: str) -> list[tuple[str, str]]:
    """Which verdicts small models of other training seeds and shapes have, where they were measured on every one."""
    found = [result for result in _glows() if result.rows.get(id)]
    if not found:
        return []
    seeds = _most(id, [result for result in found if result.cell == across.GLOW])
    told = (
        f"small Glows that differ in their training seed alone: {seeds}; with other shapes and data: {_most(id, found)}"
    )
    return [("Other seeds", f'{told} (<a href="10_why.html#why-seeds">chapter 10</a>)')]


def _most(id: str, results: Sequence[Result]) -> str:
    verdicts = Counter(claims.verdict_on(id, result.rows[id]) for result in results)
    verdict, times = verdicts.most_common(1)[0]
    return f"{verdict}, {times} of {len(results)}"


@cache
def _glows() -> list[Result]:
    """The small Glows that chapter 10 tells of."""
    return [result for result in open_replications() if result.cell in across.GLOWS]


def _facts(entry: Entry) -> list[tuple[str, str]]:
    return [
        ("Estimate", _text(_brief(entry))),
        ("Independent units", f"{entry.n:,}"),
        *((name.capitalize(), _text(text.replace("*", ""))) for name, text in entry.beside().items()),
        ("Control", _text(entry.control)),
    ]


def _text(text: str) -> str:
    """Text without formulas, as it is but that its intervals stay on one line."""
    return html.escape(unbroken(text))


def _list(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)


def _rule(row: Row) -> str:
    """The ranges of a rule in words."""
    verdicts, limits = row.rule[::2], [f"{limit:g}" for limit in row.limits]
    between = [f"{v} from {a} to {b}" for v, a, b in zip(verdicts[1:-1], limits, limits[1:], strict=False)]
    return "; ".join([f"{verdicts[0]} below {limits[0]}", *between, f"{verdicts[-1]} above {limits[-1]}"])


def _badge(verdict: str) -> str:
    style, sign = STYLES[verdict]
    return f'<span class="verdict-badge {style}"><span aria-hidden="true">{sign}</span> {verdict}</span>'


def _dot(entry: Entry) -> str:
    style, sign = STYLES[entry.verdict]
    name = html.escape(": ".join(filter(None, [_model(entry), entry.verdict])))
    return f'<span class="verdict-dot {style}" role="img" aria-label="{name}" title="{name}">{sign}</span>'


def _chip(entry: Entry, wide: str = "") -> str:
    words = _SHORT.get(entry.verdict, entry.verdict)
    model = f' <span class="verdict-model">{html.escape(_model(entry))}</span>' if entry.model else ""
    return (
        f'<span class="verdict-chip {STYLES[entry.verdict][0]}{wide}">{_dot(entry)}'
        f'<span aria-hidden="true">{words}{model}</span></span>'
    )


def _model(entry: Entry) -> str:
    """What a reader is told of the model; B08 and B09 have several, with a plus between. None of an open row: ""."""
    return "no model needed" if entry.model == claims.NO_MODEL else entry.model


def _source(row: Row) -> str:
    source = html.escape(row.source)
    return source[0].upper() + source[1:] if source.startswith("beyond") else f"Thesis, {source}"


def _brief(entry: Entry) -> str:
    """Estimate and interval."""
    return "" if entry.ci is None else Estimate(entry.estimate, entry.ci, entry.n).brief
