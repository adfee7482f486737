"""The context of a head without a sheet of its own: how sure it is, and the maps that it shows."""

from mmseg_ctx.visualization.panels import PixelTable, add_colour_bar, mark_pixel, show_map
from mmseg_ctx.visualization.prediction import most_probable

TITLE = 'Confidence, and what the head shows of itself'
EXPLANATION = (
    'Confidence is the probability of the predicted class. A map of several channels is drawn as '
    'their mean.'
)
HEIGHT, COLUMNS = 4.6, 4


def read_context(head, shown, prediction):
    """Return the confidence ``[H, W]`` and the mean of each map ``[h, w]``, by title."""
    _, confidence = most_probable(prediction.logits, count=1)  # [1, H, W]
    maps = dict(confidence=confidence[0])
    for name, tensors in shown.items():
        for index, tensor in enumerate(tensors, start=1):
            if tensor.dim() == 4:
                title = name if len(tensors) == 1 else f'{name} {index}'
                maps[title] = tensor[0].float().mean(dim=0).cpu()
    return maps


def draw(figure, maps, prediction):
    """Draw the confidence and the first maps over the image."""
    _draw_maps(figure, dict(list(maps.items())[: 2 * COLUMNS]), prediction)


def _draw_maps(figure, maps, prediction):
    columns = min(len(maps), COLUMNS)
    grid = figure.subplots(-(-len(maps) // columns), columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, values) in zip(grid, maps.items(), strict=False):
        axes.set_axis_on()
        if title == 'confidence':  # of the original image, which is not padded
            add_colour_bar(show_map(axes, values, title, limits=(0, 1)))
        else:
            add_colour_bar(show_map(axes, values, title, prediction.frame, prediction.image))
    return grid


def read_pixel(maps, prediction, row, column):
    """Return each map and its value at the pixel, by title."""
    return {
        title: (values, values[prediction.cell(row, column, values.shape)].item())
        if title != 'confidence'
        else (values, values[row, column].item())
        for title, values in maps.items()
    }


def describe_pixel(here, prediction):
    """Return the values at the pixel."""
    values = [[title, value] for title, (_, value) in here.items()]
    sentence = f'The probability of the predicted class is {values[0][1]:.2f}.'
    return PixelTable(sentence, ('map', 'value here'), values)


def draw_pixel(figure, here, prediction, row, column):
    """Draw the maps, and mark the pixel."""
    figure.set_figheight(1.8 * -(-min(len(here), 2 * COLUMNS) // COLUMNS))
    maps = {title: values for title, (values, _) in list(here.items())[: 2 * COLUMNS]}
    first, *others = _draw_maps(figure, maps, prediction)
    mark_pixel(first, row, column)
    for axes in others[: len(maps) - 1]:
        mark_pixel(axes, *prediction.seen_pixel(row, column))
