"""The pictures of the page: an image with a label map over it, a legend, and figures."""

import base64
import io
from html import escape

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.visualization.context import to_picture
from mmseg_ctx.visualization.labels import class_name, classes_in, colour_label
from mmseg_ctx.visualization.panels import PIXEL_WIDTH

PREDICTION, TRUTH, ERRORS, NOTHING = 'prediction', 'ground truth', 'errors', 'nothing'
WRONG = (215, 48, 39)
SMALLEST_SIDE = 512
FIGURE_DPI = 150


def data_url(picture):
    """Return an RGB picture, uint8 ``[H, W, 3]``, as a ``data:`` URL of a PNG.

    The page contains the picture then; the server needs no file for it.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG', compress_level=1)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def magnification(scene):
    """Return the factor by which the page enlarges the original image, an integer."""
    return max(1, -(-SMALLEST_SIDE // max(scene.prediction.shape)))


def cover_image(scene, cover, opacity):
    """Lay a label map over the image.

    Args:
        scene (Scene): The image.
        cover (str): ``'prediction'``, ``'ground truth'``, ``'errors'`` (the pixels whose prediction
            differs from the label) or ``'nothing'``.
        opacity (float): 0 shows the image alone, 1 the label map alone.

    Returns:
        np.ndarray: RGB, uint8 ``[H, W, 3]``, of the original image's size.
    """
    height, width = scene.prediction.shape
    image = np.asarray(Image.fromarray(np.ascontiguousarray(scene.image)).resize((width, height)))
    if cover == ERRORS:
        wrong = (scene.prediction != scene.label) & (scene.label != IGNORED)
        colours, covered = np.broadcast_to(np.uint8(WRONG), image.shape), wrong
    elif cover == NOTHING:
        return image
    else:
        label = scene.prediction if cover == PREDICTION else scene.label
        colours, covered = colour_label(label, scene.palette), label != IGNORED
    mixed = (1 - opacity) * image + opacity * colours
    return np.where(covered[..., None], (mixed + 0.5).astype(np.uint8), image)


def show_place(picture, factor, row, column):
    """Enlarge a picture, and mark one of its pixels by a cross.

    Args:
        picture (np.ndarray): RGB, uint8 ``[H, W, 3]``.
        factor (int): See :func:`magnification`.
        row (int): The pixel's row in ``picture``.
        column (int): The pixel's column in ``picture``.

    Returns:
        np.ndarray: RGB, uint8 ``[factor * H, factor * W, 3]``.
    """
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    top, left = (factor * place + factor // 2 for place in (row, column))
    length = max(8, max(picture.shape) // 40)
    unit = max(1, length // 10)

    def around(down, across):
        above, before = max(0, top - down), max(0, left - across)
        return slice(above, top + down + 1), slice(before, left + across + 1)

    pixel = around(*[max(factor // 2, 2 * unit)] * 2)
    beneath = picture[pixel].copy()
    for colour, width in (((0, 0, 0), 2 * unit), ((255, 255, 255), unit)):
        picture[around(length, width)] = colour
        picture[around(width, length)] = colour
    # The cross does not cover the pixel itself.
    picture[pixel] = beneath
    return picture


def legend(scene):
    """Return the classes of prediction and label as HTML, each with a patch of its colour.

    The patch of ignored pixels is transparent, since the label map does not cover the image there.
    """
    entries = []
    for index in classes_in([scene.prediction, scene.label]).tolist():
        colour = 'transparent'
        if index != IGNORED:
            colour = f'rgb({",".join(str(int(value)) for value in scene.palette[index])})'
        # Names come from the checkpoint, which may be malicious.
        entries.append(
            f'<span class="entry"><span class="patch" style="background:{colour}"></span>'
            f'{escape(class_name(index, scene.classes))}</span>'
        )
    return f'<div class="legend">{"".join(entries)}</div>'


def draw_pixel(method, here, scene, row, column):
    """Return a method's drawing for a pixel as an RGB picture, uint8 ``[H, W, 3]``."""
    figure = Figure(figsize=(PIXEL_WIDTH, method.pixel_height(here)), layout='constrained')
    method.draw_pixel(figure, here, scene, row, column)
    return to_picture(figure, FIGURE_DPI)
