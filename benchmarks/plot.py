"""plot.py - small line charts side by side, as SVG that reads on light and on dark ground."""
import html
import math

WIDTH, HEIGHT = 250, 190                           # of one chart, axes and labels included
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 34
GREY, COLOURS = "#808080", ("#2f80d0", "#e07020", "#30a060")
DASHED = "4 3"


class Scale:
    """Numbers to places between two ends; logarithmic where asked for."""

    def __init__(self, values, logarithmic, begin, end, from_zero=False):
        self.log = logarithmic
        low, high = min(values), max(values)
        if logarithmic:
            self.low, self.high = math.log10(low), math.log10(high)
        else:
            self.low, self.high = (0.0 if from_zero else low), high
        span = self.high - self.low or 1.0
        if logarithmic or not from_zero:
            self.low -= 0.06 * span
        self.high += 0.06 * span
        self.begin, self.end = begin, end

    def at(self, value):
        value = math.log10(value) if self.log else value
        share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        """A few round numbers within the ends."""
        if self.log:
            found = [digit * 10.0 ** power for power in range(math.floor(self.low),
                                                              math.ceil(self.high) + 1)
                     for digit in (1, 2, 5)]
            found = [tick for tick in found if self.low <= math.log10(tick) <= self.high]
            return found if len(found) < 8 else found[::3]
        step = 10.0 ** math.floor(math.log10(self.high - self.low))
        step = next(step * part for part in (0.2, 0.5, 1, 2)
                    if (self.high - self.low) / (step * part) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [round((first + i) * step, 10) for i in range(count)]


def text(x, y, words, anchor="middle", size=10, colour=GREY, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}" fill="{colour}">{html.escape(str(words))}</text>')


def line(points, colour, dash="", width=1.8):
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    stroke = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<polyline points="{places}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}"{stroke}/>')


def number(value):
    return f"{value:g}" if value < 10000 else f"{value:,.0f}"


def chart(panel, x0, y0):
    """One chart: {"title", "x", "y", "log_x", "log_y", "ticks" (places of x), "lines": [{"points",
    "spread", "colour", "dashed"}]}."""
    points = [point for curve in panel["lines"] for point in curve["points"]]
    ends = [end for curve in panel["lines"] for pair in curve.get("spread", []) for end in pair]
    x = Scale([p[0] for p in points], panel["log_x"], x0 + LEFT, x0 + WIDTH - RIGHT)
    y = Scale([p[1] for p in points] + ends, panel["log_y"], y0 + HEIGHT - BOTTOM, y0 + TOP, True)
    parts = [text(x0 + LEFT, y0 + 14, panel["title"], "start", 11, weight="bold")]
    for tick in y.ticks():
        place = y.at(tick)
        parts.append(f'<line x1="{x.begin}" x2="{x.end}" y1="{place:.1f}" y2="{place:.1f}" '
                     f'stroke="{GREY}" stroke-opacity="0.25"/>')
        parts.append(text(x.begin - 4, place + 3.5, number(tick), "end"))
    for tick, label in panel.get("ticks") or [(tick, number(tick)) for tick in x.ticks()]:
        parts.append(text(x.at(tick), y.begin + 13, label))
    parts.append(line([(x.begin, y.end), (x.begin, y.begin), (x.end, y.begin)], GREY, width=1))
    parts.append(text((x.begin + x.end) / 2, y.begin + 27, panel["x"]))
    for curve in panel["lines"]:
        colour = curve["colour"]
        places = [(x.at(a), y.at(b)) for a, b in curve["points"]]
        parts.append(line(places, colour, DASHED if curve.get("dashed") else ""))
        for (across, up), pair in zip(places, curve.get("spread", [])):
            parts.append(line([(across, y.at(pair[0])), (across, y.at(pair[1]))], colour, width=1))
            parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="2.4" fill="{colour}"/>')
    return "\n".join(parts)


def page(title, legend, rows):
    """The file: a title, what the colours mean, rows of charts."""
    width = WIDTH * max(len(row) for row in rows) + 10
    height = HEIGHT * len(rows) + 56
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             f'width="{width}" height="{height}" font-family="sans-serif">',
             f"<title>{html.escape(title)}</title>",
             text(10, 18, title, "start", 13, weight="bold")]
    at = 10
    for words, colour, dashed in legend:
        parts.append(line([(at, 36), (at + 26, 36)], colour, DASHED if dashed else ""))
        parts.append(text(at + 32, 40, words, "start", 11))
        at += 46 + 6.4 * len(words)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            parts.append(chart(panel, 5 + j * WIDTH, 50 + i * HEIGHT))
    return "\n".join(parts) + "\n</svg>\n"
