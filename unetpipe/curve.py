"""The course of a training run: one point for every hundredth of its steps."""

from collections.abc import Sequence

COLUMNS = ("step", "loss", "learning_rate", "score", "threshold")


def curve_table(points: Sequence[Sequence[float | None]]) -> str:
    """The curve with tabs between its columns; a cell is empty where the network was not scored.

    Parameters
    ----------
    points : sequence of (step, loss, learning rate, score, threshold)
        The last ones may be missing, as in networks of earlier versions.
    """
    columns = COLUMNS[: max((len(point) for point in points), default=len(COLUMNS))]
    rows = [columns, *(["" if value is None else value for value in point] for point in points)]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)
