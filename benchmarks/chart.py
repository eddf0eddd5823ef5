"""Plots of results as SVG files, drawn without a plotting library."""

import dataclasses
import html
from collections.abc import Sequence

_LABEL_WIDTH = 190
_PLOT_WIDTH = 420
_VALUE_WIDTH = 170
_ROW_HEIGHT = 24
_TOP = 56
_TEXT = 'font-family="sans-serif" font-size="13"'


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure with its interval; `is_ours` sets it apart."""

    label: str
    value: float
    low: float
    high: float
    is_ours: bool = False


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Returns an SVG of horizontal bars from 0, each with a line over its interval."""
    largest = max([bar.high for bar in bars] + [1e-12])
    height = _TOP + _ROW_HEIGHT * len(bars) + 12
    width = _LABEL_WIDTH + _PLOT_WIDTH + _VALUE_WIDTH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="30" {_TEXT} font-weight="bold">{html.escape(title)}</text>',
    ]
    for row, bar in enumerate(bars):
        parts += _bar(bar, _TOP + _ROW_HEIGHT * row, _PLOT_WIDTH / largest)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    middle = top + _ROW_HEIGHT / 2
    left, right = (_LABEL_WIDTH + scale * end for end in (bar.low, bar.high))
    colour = "#1f6fb4" if bar.is_ours else "#b9c4cf"
    return [
        f'<text x="{_LABEL_WIDTH - 8}" y="{middle + 4:.1f}" {_TEXT} '
        f'text-anchor="end">{html.escape(bar.label)}</text>',
        f'<rect x="{_LABEL_WIDTH}" y="{top + 4}" width="{scale * bar.value:.1f}" '
        f'height="{_ROW_HEIGHT - 8}" fill="{colour}"/>',
        f'<path d="M{left:.1f} {middle:.1f}H{right:.1f}M{left:.1f} {middle - 4:.1f}v8'
        f'M{right:.1f} {middle - 4:.1f}v8" stroke="black" fill="none"/>',
        f'<text x="{max(right, _LABEL_WIDTH) + 8:.1f}" y="{middle + 4:.1f}" {_TEXT}>'
        f"{bar.value:.3f} ({bar.low:.3f} to {bar.high:.3f})</text>",
    ]
