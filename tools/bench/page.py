# SPDX-License-Identifier: mpich2
"""The page: what figures say, as Markdown and as one HTML file with its plots in it."""
import csv
import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from .figures import Figures, layout_of
from .grounds import TRANSPORTS
from .results import Summary

GROUNDS = {
    "namespaces": "Each VM of a layout is a network namespace of this machine: tcp goes through the kernel from one "
                  "veth to the other, and ivshmem through a region file, at the speed of the processors. Columns "
                  "without VMs run all ranks on the host and are the limit.",
    "guests": "Each VM of a layout is a guest of ivshmem-vms.",
    "host": "All ranks run on the host, without VMs.",
}
STYLE = ("body{font-family:sans-serif;max-width:60em;margin:2em auto;line-height:1.4}table{border-collapse:collapse}"
         "td,th{padding:.2em .6em;border:1px solid "
         "#ccc;text-align:right}td:first-child,th:first-child{text-align:left}")


class Page:
    """Blocks of a page, written twice."""

    def __init__(self):
        self.blocks: list[tuple] = []

    def heading(self, level: int, text: str) -> None:
        self.blocks.append(("heading", level, text))

    def text(self, text: str) -> None:
        self.blocks.append(("text", text))

    def items(self, items: list[str]) -> None:
        self.blocks.append(("items", items))

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        self.blocks.append(("table", head, rows))

    def plot(self, name: str, title: str) -> None:
        self.blocks.append(("plot", name, title))

    def markdown(self, plots: str) -> str:
        """`plots` is the folder of the plots, as seen from the page."""
        parts = ["<!-- SPDX-License-Identifier: mpich2 -->\n<!-- Written by ivshmem-bench or bench/apps/run: do not "
                 "edit. -->"]
        for kind, *block in self.blocks:
            if kind == "heading":
                parts.append(f"{'#' * block[0]} {block[1]}")
            elif kind == "text":
                parts.append(block[0])
            elif kind == "items":
                parts.append("\n".join(f"- {item}" for item in block[0]))
            elif kind == "table":
                parts.append("\n".join(["| " + " | ".join(row) + " |" for row in (
                    block[0], ["---"] * len(block[0]), *block[1])]).replace("| --- ", "|---").replace("|---|", "|---|"))
            else:
                parts.append(f"![{block[1]}]({plots}/{block[0]}.svg)")
        # A heading stands directly above what follows, as in the other pages.
        return re.sub(r"^(<!-- .* -->\n<!-- .* -->|#+ .*)\n\n(?!#)", r"\1\n", "\n\n".join(parts), flags=re.M) + "\n"

    def html(self, plots: Path) -> str:
        parts = []
        for kind, *block in self.blocks:
            if kind == "heading":
                parts.append(f"<h{block[0]}>{_inline(block[1])}</h{block[0]}>")
            elif kind == "text":
                parts.append(f"<p>{_inline(block[0])}</p>")
            elif kind == "items":
                parts.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block[0]) + "</ul>")
            elif kind == "table":
                rows = ["".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in row)
                        for tag, row in [("th", block[0]), *(("td", row) for row in block[1])]]
                parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
            else:
                svg = (plots / f"{block[0]}.svg").read_text(encoding="utf-8")
                parts.append(svg[svg.index("<svg"):])
        title = next((block[2] for block in self.blocks if block[0] == "heading"), "")
        return (f"<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{html.escape(title)}</title>"
                f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n")


def _inline(text: str) -> str:
    """Of Markdown, what these pages use: code, bold."""
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*([^*]*)\*\*", r"<b>\1</b>", text)


def _seconds(cell: Summary) -> str:
    return f"{cell.median:.3g}" + (f" ± {cell.spread:.0f} %" if cell.samples > 1 else "")


def _percent(ratio: Optional[float]) -> str:
    return f"{100 * ratio:.0f} %" if ratio else ""


def _draw(kind: str, rows: list[list], plots: Path, name: str, title: str) -> bool:
    """Writes the points, and draws them if gnuplot is there."""
    if len(rows) < 2:
        return False
    with open(plots / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    if not shutil.which("gnuplot"):
        return False
    done = subprocess.run(["gnuplot", "-c", str(Path(__file__).with_name("plots.gp")), kind, str(plots / f"{name}.csv"),
                           str(plots / f"{name}.svg"), title], capture_output=True)
    return done.returncode == 0 and (plots / f"{name}.svg").exists()


def _about(page: Page, figures: Figures) -> None:
    about = figures.about
    what = [f"`{about.get('command', 'ivshmem-bench')}`", about["date"], about["cpu"],
            f"{about['processors']} processors", about["system"], about["mpi"], about.get("versions")]
    page.text(", ".join(filter(None, what)) + ".")
    if about["load"] > 0.3:
        page.text(f"**Other work ran beside it**: the load of the machine was {about['load']} when the command "
                  "started. These figures show that everything runs; they are no measure of speed.")
    most = max((record["ranks"] for record in figures.records), default=0)
    if most > about["processors"]:
        page.text(f"Up to {most} ranks share {about['processors']} processors: where ranks outnumber processors, "
                  "adding VMs adds no processors, and times tell about waiting as much as about messages.")


def _layout(page: Page, figures: Figures, plots: Path, ground: str, layout: str) -> None:
    size = layout_of(layout)
    transports = figures.transports(ground, layout)
    page.heading(3, f"{layout}: {size.vms} VM{'s' * (size.vms > 1)}, {size.each} rank{'s' * (size.each > 1)} in each")
    name = f"bars-{ground}-{layout}"
    if _draw("bars", figures.bars(ground, layout), plots, name, f"{layout}, {ground}"):
        page.plot(name, f"run time, {layout}")
    rows = []
    ratios = [(transport, base) for base in ("tcp", "shm") if base in transports for transport in transports
              if transport.startswith("ivshmem")]
    for code in figures.codes:
        cells = [figures.cell(ground, transport, code, layout) for transport in transports]
        if not any(cells):
            continue
        share = figures.mpi_share(ground, code, layout)
        rows.append([code, f"{share:.0f} %" if share is not None else "",
                     *(_seconds(cell) if cell else "" for cell in cells),
                     *(_percent(figures.ratio(ground, transport, code, layout, base)) for transport, base in ratios)])
    rows.append(["geometric mean, of tcp", "",
                 *(_percent(figures.mean_ratio(ground, transport, layout)) for transport in transports),
                 *(_percent(figures.mean_ratio(ground, transport, layout, base)) for transport, base in ratios)])
    least = min(cell.samples for key, cell in figures.cells.items() if key[3] == layout)
    bases = " and of that over ".join(dict.fromkeys(base for _, base in ratios))
    page.text(f"Seconds, medians of at least {least} run{'s' * (least > 1)}" +
              (f"; the last columns are parts of the time over {bases}:" if bases else ":"))
    page.table(["code", "in MPI, tcp", *transports, *(f"{transport} of {base}" for transport, base in ratios)], rows)


def _profiles(page: Page, figures: Figures, ground: str) -> None:
    layouts = [layout for layout in figures.layouts(ground) if figures.profile_rows(ground, layout)
               and layout_of(layout).vms > 1]
    if not layouts:
        return
    page.heading(3, "Time in MPI")
    page.text("Of a run of its own, which does not count above: the share of a rank's time in MPI, from the least to "
              "the most of all ranks; the calls in which most of that was spent and the sizes of what was sent, over "
              "tcp; and, over ivshmem, MB sent through the region in eager messages (headers included) and in large "
              "messages, and by tcp. What ranks of one VM send each other is in none of these three.")
    for layout in layouts:
        page.text(f"{layout}:")
        page.table(["code", "tcp", "ivshmem", "calls", "sizes", "eager", "large", "by tcp"],
                   figures.profile_rows(ground, layout))


def make(figures: Figures, plots: Path, title: str, preface: list, closing: list) -> Page:
    """`preface` and `closing` are blocks: a text, or a list of items, or a heading that begins with #."""
    page = Page()

    def write(blocks: list) -> None:
        for block in blocks:
            if isinstance(block, list):
                page.items(block)
            elif block.startswith("#"):
                page.heading(block.count("#"), block.lstrip("# "))
            else:
                page.text(block)

    page.heading(1, title)
    _about(page, figures)
    write(preface)
    used = [transport for transport in TRANSPORTS if any(key[1] == transport for key in figures.cells)]
    page.items([f"`{transport}`: {TRANSPORTS[transport]}" for transport in used])
    page.text("A layout VxR is V VMs with R ranks in each. A time is a median; ± is half the distance of the quartiles "
              "(of fewer than four runs, of the extremes) in percent of it.")
    for ground in figures.grounds():
        page.heading(2, {"namespaces": "Network namespaces", "guests": "Guests", "host": "Host"}[ground])
        accel = figures.about.get("guests")
        page.text(GROUNDS[ground] + (f" They were {accel}." if ground == "guests" and accel else ""))
        for kind, rows, what in (("scatter", figures.scatter(ground), "Reduction of run time against time in MPI"),
                                 ("scaling", figures.scaling(ground), "Scaling")):
            if _draw(kind, rows, plots, f"{kind}-{ground}", f"{what}, {ground}"):
                page.plot(f"{kind}-{ground}", what)
        for layout in figures.layouts(ground):
            _layout(page, figures, plots, ground, layout)
        _profiles(page, figures, ground)
    if figures.failed:
        page.heading(2, "Failed runs")
        page.items([f"`{record['run']}`: {record['error']}" for record in figures.failed])
    if figures.about.get("skipped"):
        page.heading(2, "Left out")
        page.items(figures.about["skipped"])
    write(closing)
    return page


def write(figures: Figures, folder: Path, title: str, preface: list, closing: list) -> None:
    """applications.md, applications.html, plots, runs.csv, summary.csv, results.json in `folder`."""
    plots = folder / "plots"
    shutil.rmtree(plots, ignore_errors=True)
    plots.mkdir()
    page = make(figures, plots, title, preface, closing)
    (folder / "applications.md").write_text(page.markdown("plots"), encoding="utf-8")
    (folder / "applications.html").write_text(page.html(plots), encoding="utf-8")
    figures.write_csv(folder)
    figures.write_json(folder)
