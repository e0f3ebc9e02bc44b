"""What the plots in a page show, asked of the page's own BokehJS."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

_DOCUMENTS = """
const copies = [...Object.values(window.__ucxnb_bokeh__ ?? {}), window.Bokeh];
const documents = copies.filter(Boolean).flatMap((bokeh) => [...bokeh.documents]);
const named = (name) =>
  documents.flatMap((d) => [...d._all_models.values()].filter((model) => model.name === name));
const sources = (name) => named(name).filter((model) => model?.data);
"""


def wait_for_plots(page: Page) -> None:
    """Wait until the plots are drawn."""
    page.wait_for_selector(".ucxnb-live[data-ready=yes]", timeout=60_000)


def latest_point(page: Page, source: str) -> dict[str, Any]:
    """The newest point of a data source, its number of points, and the greatest rate sent."""
    return page.evaluate(
        f"""(name) => {{
          {_DOCUMENTS}
          const data = sources(name).at(-1).data;
          return {{
            count: data.time.length,
            time: data.time.at(-1) ?? 0,
            greatest: Math.max(0, ...data.sent),
          }};
        }}""",
        source,
    )


def source_columns(page: Page, source: str) -> dict[str, Any]:
    """The columns of a data source."""
    return page.evaluate(
        f"""(name) => {{
          {_DOCUMENTS}
          const columns = Object.entries(sources(name).at(-1).data);
          return Object.fromEntries(columns.map(([column, values]) => [column, [...values]]));
        }}""",
        source,
    )


def plot_model(page: Page, name: str, path: str) -> Any:
    """What a model of that name has at a path such as ``glyph.type``; None if there is none."""
    return page.evaluate(
        f"""([name, path]) => {{
          {_DOCUMENTS}
          const model = named(name).at(-1);
          return model ? new Function("model", `return model.${{path}}`)(model) : null;
        }}""",
        [name, path],
    )


def watch_updates(page: Page, source: str) -> None:
    """Note the time of every change of a data source from now on."""
    page.evaluate(
        f"""(name) => {{
          {_DOCUMENTS}
          const watched = sources(name).at(-1);
          window.ucxnbUpdates = [];
          watched.connect(watched.properties.data.change, () =>
            window.ucxnbUpdates.push(Date.now() / 1000));
        }}""",
        source,
    )


def updates_between(page: Page, start: float, end: float) -> int:
    """How many changes were noted between two epoch times."""
    times = page.evaluate("() => window.ucxnbUpdates")
    return sum(start <= time <= end for time in times)
