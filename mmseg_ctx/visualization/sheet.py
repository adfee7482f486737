"""A sheet of pictures: image, ground truth and predictions side by side, a row for each image."""

from matplotlib.figure import Figure

from mmseg_ctx.visualization.labels import class_entries, colour_label

TILE = 1.9
"""Width of a picture in inches."""


def draw_sheet(rows, titles, classes, palette):
    """Draw a sheet of pictures, and below it a legend of the classes in them.

    Args:
        rows (Sequence[Sequence[np.ndarray]]): For each row, the RGB image, uint8 ``[H, W, 3]``, and
            then the label maps, integers ``[H, W]`` in 0..255.
        titles (Sequence[str]): Title of each column.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        matplotlib.figure.Figure: The sheet; ``figure.savefig`` saves it.
    """
    entries = class_entries([label for _, *labels in rows for label in labels], classes, palette)
    columns = 3 * len(titles) // 2
    legend_height = 0.25 * -(-len(entries) // columns)
    # The height of a row follows from the shape of its image.
    height = TILE * sum(image.shape[0] / image.shape[1] for image, *_ in rows)
    size = (TILE * len(titles), height + 0.6 + legend_height)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
    for line, (image, *labels) in zip(grid, rows, strict=True):
        pictures = [image, *(colour_label(label, palette) for label in labels)]
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
    place = 'outside lower center'
    figure.legend(handles=entries, loc=place, ncols=columns, fontsize=9, frameon=False)
    return figure
