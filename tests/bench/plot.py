#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what the packet benchmarks wrote: plot.py FOLDER turns its nodes.tsv, buckets.tsv and tables.tsv into SVG."""
import collections
import html
import math
import pathlib
import sys

PLOTS = {"nodes": ("ns for a rejected frame by number of nodes", "nodes", "ns"),
         "buckets": ("ns for a rejected frame by number of buckets that clients reach", "buckets", "ns"),
         "tables": ("ms for a new table by number of nodes", "nodes", "ms")}
COLOURS = ["#1b6ca8", "#d1495b", "#2e8b57", "#8e5ea2", "#c98a00"]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 420, 70, 50, 170, 50


def read(path):
    series = collections.defaultdict(list)
    for line in path.read_text().splitlines():
        name, x, y = line.split("\t")
        series[name].append((float(x), float(y)))
    return series


def nice_top(value):
    """The next of 1, 2, 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def draw(series, title, x_name, y_name):
    xs = sorted({x for points in series.values() for x, _ in points})
    top = nice_top(max(y for points in series.values() for _, y in points))
    low, high = math.log2(xs[0]), math.log2(xs[-1])

    def place(x, y):
        return (LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(x) - low) / max(high - low, 1e-9),
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
           f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="25" font-size="15">{html.escape(title)}</text>']
    for tick in range(6):
        value = top * tick / 5
        _, y = place(xs[0], value)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for x in xs:
        at, y = place(x, 0)
        out.append(f'<text x="{at:.1f}" y="{y + 18:.1f}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_name}</text>'
               f'<text x="18" y="{TOP - 10}">{y_name}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                for x, y in (place(*point) for point in points)]
        out.append(f'<text x="{WIDTH - RIGHT + 15}" y="{TOP + 18 * number + 4}" fill="{colour}">{html.escape(name)}</text>')
    return "\n".join([*out, "</svg>"])


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, labels in PLOTS.items():
        source = folder / f"{name}.tsv"
        if source.exists() and source.stat().st_size:
            target = source.with_suffix(".svg")
            target.write_text(draw(read(source), *labels))
            print(f"plot: {target}")


if __name__ == "__main__":
    main()
