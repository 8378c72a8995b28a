# SPDX-License-Identifier: mpich2
"""What the records say: medians, tables and the points of plots. They are written by `page`."""
import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Optional

from .layouts import Layout
from .results import Results, Summary, summary

ORDER = ("ivshmem", "ivshmem-malloc", "tcp", "shm", "mpich", "openmpi")
FIELDS = ("ground", "transport", "code", "layout", "vms", "ranks", "round", "ok", "seconds", "wall", "error")


def layout_of(text: str) -> Layout:
    return Layout(*map(int, text.split("x")))


class Figures:
    def __init__(self, results: Results):
        self.about = results.about
        self.records = list(results.records.values())
        samples: dict[tuple, list[float]] = {}
        for record in self.records:
            if record["ok"] and isinstance(record["round"], int) and record["round"] > 0:
                samples.setdefault((record["ground"], record["transport"], record["code"], record["layout"]),
                                   []).append(record["seconds"])
        self.cells: dict[tuple, Summary] = {key: summary(values) for key, values in samples.items()}
        self.failed = [record for record in self.records if not record["ok"]]
        found = {record["code"] for record in self.records}
        self.codes = [code for name in self.about.get("settings", {})
                      if (code := name.removeprefix("program ")) in found]
        self.profiles = {(record["ground"], record["transport"], record["code"], record["layout"]): record
                         for record in self.records if record["ok"] and record.get("profile")}

    def grounds(self) -> list[str]:
        """Those that tables are of: the host's figures stand beside those of namespaces, or alone."""
        found = {key[0] for key in self.cells}
        return [name for name in ("namespaces", "guests") if name in found] or sorted(found)

    def layouts(self, ground: str) -> list[str]:
        found = {key[3] for key in self.cells if key[0] in self._with(ground)}
        return sorted(found, key=lambda text: (layout_of(text).each, layout_of(text).vms))

    @staticmethod
    def _with(ground: str) -> tuple[str, ...]:
        return (ground,) if ground == "guests" else (ground, "host")

    def cell(self, ground: str, transport: str, code: str, layout: str) -> Optional[Summary]:
        for name in self._with(ground):
            if (name, transport, code, layout) in self.cells:
                return self.cells[name, transport, code, layout]
        return None

    def transports(self, ground: str, layout: str) -> list[str]:
        return [transport for transport in ORDER
                if any(self.cell(ground, transport, code, layout) for code in self.codes)]

    def ratio(self, ground: str, transport: str, code: str, layout: str, base: str = "tcp") -> Optional[float]:
        """Run time as a part of that over another transport."""
        mine, other = self.cell(ground, transport, code, layout), self.cell(ground, base, code, layout)
        return mine.median / other.median if mine and other and other.median > 0 and mine.median > 0 else None

    def mean_ratio(self, ground: str, transport: str, layout: str, base: str = "tcp") -> Optional[float]:
        """The geometric mean over the codes that ran over both transports."""
        found = [ratio for code in self.codes if (ratio := self.ratio(ground, transport, code, layout, base))]
        return geometric_mean(found)

    def time_in_mpi(self, ground: str, transport: str, code: str, layout: str) -> Optional[list[float]]:
        """Percent, by rank, least first."""
        record = self.profiles.get((ground, transport, code, layout))
        ranks = record["profile"]["ranks"].values() if record else []
        shares = sorted(100 * rank["mpi_ns"] / rank["ns"] for rank in ranks if rank["ns"])
        return shares or None

    def mpi_share(self, ground: str, code: str, layout: str, transport: str = "tcp") -> Optional[float]:
        shares = self.time_in_mpi(ground, transport, code, layout)
        return sum(shares) / len(shares) if shares else None

    # Rows of tables and points of plots

    def bars(self, ground: str, layout: str) -> list[list]:
        transports = self.transports(ground, layout)
        rows: list[list] = [["code", *transports]]
        for code in self.codes:
            cells = [self.cell(ground, transport, code, layout) for transport in transports]
            if any(cells):
                rows.append([code, *(f"{cell.median:.6g}" if cell else "NaN" for cell in cells)])
        return rows

    def scatter(self, ground: str) -> list[list]:
        rows: list[list] = [["code", "layout", "transport", "percent of time in MPI over tcp", "reduction in percent"]]
        for layout in self.layouts(ground):
            for code in self.codes:
                share = self.mpi_share(ground, code, layout)
                for transport in ("ivshmem", "ivshmem-malloc"):
                    ratio = self.ratio(ground, transport, code, layout)
                    if share is not None and ratio and layout_of(layout).vms > 1:
                        rows.append([code, layout, transport, f"{share:.2f}", f"{100 * (1 - ratio):.2f}"])
        return rows

    def scaling(self, ground: str) -> list[list]:
        """By VMs with one rank each, how much faster than on one: the geometric mean of the codes that ran on all."""
        layouts = [text for text in self.layouts(ground) if layout_of(text).each == 1]
        transports = [transport for transport in ("ivshmem", "ivshmem-malloc", "tcp")
                      if any(transport == key[1] for key in self.cells)]
        rows: list[list] = [["VMs", *transports]]
        if "1x1" not in layouts or len(layouts) < 2:
            return rows
        for layout in layouts:
            row: list = [layout_of(layout).vms]
            for transport in transports:
                # A code counts if it ran in all of these layouts, so that the points are of the same codes.
                found = []
                for code in self.codes:
                    cells = [self.cell(ground, transport, code, other) for other in layouts]
                    if all(cell and cell.median > 0 for cell in cells):
                        found.append(cells[0].median / cells[layouts.index(layout)].median)
                mean = geometric_mean(found)
                row.append(f"{mean:.4g}" if mean else "NaN")
            rows.append(row)
        return rows

    def profile_rows(self, ground: str, layout: str) -> list[list[str]]:
        """Where time in MPI goes, over tcp and over the region, and by which paths the bytes went there."""
        rows = []
        for code in self.codes:
            tcp, region = (self.profiles.get((ground, name, code, layout)) for name in ("tcp", "ivshmem"))
            record = tcp or region
            if not record:
                continue
            profile = record["profile"]
            total = sum(call["ns"] for call in profile["calls"].values()) or 1
            calls = sorted(profile["calls"].items(), key=lambda item: -item[1]["ns"])[:3]
            shares = [self.time_in_mpi(ground, name, code, layout) for name in ("tcp", "ivshmem")]
            counted = region["counters"] if region else {}
            rows.append([
                code, *(f"{share[0]:.0f} to {share[-1]:.0f} %" if share else "" for share in shares),
                ", ".join(f"{name[4:]} {100 * call['ns'] / total:.0f} %" for name, call in calls),
                _sizes(profile["sizes"]),
                *(_mega(counted.get(name)) for name in ("eager_sent_bytes", "lmt_sent_bytes", "tcp_sent_bytes"))])
        return rows

    # Beside the page

    def write_csv(self, folder: Path) -> None:
        with open(folder / "runs.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.records)
        with open(folder / "summary.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["ground", "transport", "code", "layout", "median_s", "spread_percent", "samples"])
            for key, cell in self.cells.items():
                writer.writerow([*key, f"{cell.median:.6g}", f"{cell.spread:.1f}", cell.samples])

    def write_json(self, folder: Path) -> None:
        text = json.dumps({"about": self.about, "runs": self.records}, indent=1)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def geometric_mean(values: list[float]) -> Optional[float]:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def _mega(count: Optional[int]) -> str:
    return "" if count is None else f"{count / 1e6:.3g}"


def _sizes(sizes: dict[str, int]) -> str:
    """The three classes of sizes that have most messages."""
    total = sum(sizes.values())
    parts = []
    for size, count in Counter(sizes).most_common(3):
        limit = 1 << int(size)
        text = "0 B" if limit == 1 else f"< {limit} B" if limit < 1024 else (
            f"< {limit >> 10} KiB" if limit < 1 << 20 else f"< {limit >> 20} MiB")
        parts.append(f"{text} {100 * count / total:.0f} %")
    return ", ".join(parts)
