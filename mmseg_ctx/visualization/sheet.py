"""A sheet of pictures: image, ground truth and predictions side by side, one row a scene."""

from matplotlib.figure import Figure

from mmseg_ctx.visualization.labels import class_entries, colour_label

TILE = 1.9
"""Inches of a picture's side."""


def draw_sheet(rows, titles, classes, palette):
    """Draw a sheet of pictures over a legend of the classes that they show.

    Args:
        rows (Sequence[Sequence[np.ndarray]]): For each row the RGB image, uint8 ``[H, W, 3]``, then
            the label maps, integers ``[H, W]`` in 0..255.
        titles (Sequence[str]): One title a column.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        matplotlib.figure.Figure: The sheet, to be saved with ``figure.savefig``.
    """
    entries = class_entries([label for _, *labels in rows for label in labels], classes, palette)
    columns = 3 * len(titles) // 2
    legend_height = 0.25 * -(-len(entries) // columns)
    # A row of wide images is lower.
    height = TILE * sum(image.shape[0] / image.shape[1] for image, *_ in rows)
    size = (TILE * len(titles), height + 0.6 + legend_height)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for line, (image, *labels) in zip(grid, rows, strict=True):
        pictures = [image, *(colour_label(label, palette) for label in labels)]
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
    place = 'outside lower center'
    figure.legend(handles=entries, loc=place, ncols=columns, fontsize=9, frameon=False)
    return figure
