"""The page: its Gradio components, the functions that answer their events, and its server."""

import os
import signal
import socket
import sys
from contextlib import contextmanager
from html import escape
from unittest import mock

import gradio as gr
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.visualization.explore.explorer import SUFFIXES
from mmseg_ctx.visualization.panels import (
    class_name,
    classes_in,
    colour_label,
    draw_panels,
    mosaic_height,
)

COVERS = PREDICTION, TRUTH, ERRORS, NOTHING = 'prediction', 'ground truth', 'errors', 'nothing'
WRONG = (215, 48, 39)
SMALLEST_SIDE = 512
PIXEL_WIDTH = 4.8
"""Width in inches of the drawing about one pixel: half a wide page, or a phone's screen."""
CSS = """
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; }
.entry { display: inline-flex; align-items: center; gap: 5px; overflow-wrap: anywhere; }
.patch { width: 14px; height: 14px; border: 1px solid #888; border-radius: 2px; }
/* Pixels that are ignored have no colour: the label map does not cover the image there. */
.ignored { background: repeating-linear-gradient(45deg, #fff 0 3px, #888 3px 6px); }
.table { overflow-x: auto; }
.table td, .table th { padding: 2px clamp(3px, 1vw, 12px) !important; text-align: left; }
#picture img { cursor: crosshair; max-height: 85vh; }
/* An error is shown as a message; the picture stays. */
#picture [data-testid="status-tracker"]:has(.error) { display: none; }
@media (min-width: 900px) { #image-side { position: sticky; top: 8px; align-self: flex-start; } }
"""


@contextmanager
def one_message():
    """Show a ValueError or OSError of a function, which this decorates, as one message."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(escape(one_line(error)), title='', print_exception=False) from error


class Page:
    """The page about one model.

    Args:
        explorer (Explorer): The model.
        model_name (str): Name of the model on the page.
        images (Sequence[str]): Images to choose from, beside the test data. Default: none.

    Attributes:
        blocks (gradio.Blocks): The page, whose ``launch`` serves it.
    """

    def __init__(self, explorer, model_name, images=()):
        self.explorer = explorer
        # Pictures are deleted after some minutes; there is one of each click.
        options = dict(analytics_enabled=False, fill_width=True, delete_cache=(600, 600))
        with gr.Blocks(title=model_name, **options) as self.blocks:
            gr.Markdown(
                '## What did the model do with this pixel?\n'
                'Choose an image, then **click a pixel** in it. Beside or below the image, the '
                'page shows what the model predicts there and the context that it used. It opens '
                'on a pixel that the model gets right from the whole image and not from a quarter '
                f'of it, if there is one.\n\nModel: `{model_name}`'
            )
            self.inspection = gr.State(None, time_to_live=3600)
            with gr.Row():
                with gr.Column(scale=5, min_width=340, elem_id='image-side'):
                    sources = list(self._build_sources(images))
                    self.caption = gr.HTML(padding=False, elem_id='caption')
                    options = dict(interactive=False, show_label=False, buttons=[])
                    self.picture = gr.Image(format='png', elem_id='picture', **options)
                    self.legend = gr.HTML(padding=False)
                    label = 'Over the image (errors are red)'
                    self.cover = gr.Radio(COVERS, value=PREDICTION, label=label)
                    with gr.Row():
                        self.column = gr.Number(label='Column, from 0', precision=0, min_width=100)
                        self.row = gr.Number(label='Row, from 0', precision=0, min_width=100)
                with gr.Column(scale=6, min_width=340):
                    self._build_answer()
            self._connect(sources)

    def _build_sources(self, images):
        """Add a tab for each source of images; yield its function, its input and its events."""
        explorer = self.explorer
        with gr.Tabs():
            if explorer.test_count:
                with gr.Tab('Test data'):
                    last = max(explorer.test_count - 1, 1)
                    index = gr.Slider(0, last, 0, step=1, label='Image of the test data')
                yield explorer.test_image, index, [index.change, self.blocks.load]
            if images:
                with gr.Tab('Folder'):
                    path = gr.Dropdown(list(images), value=None, label='Image of the folder')
                yield explorer.file, path, [path.select]
            with gr.Tab('Upload'):
                upload = gr.UploadButton('Upload an image', file_types=list(SUFFIXES))
            yield explorer.file, upload, [upload.upload]
        if explorer.test_problem:
            gr.HTML(escape(explorer.test_problem))

    def _build_answer(self):
        self.place = gr.HTML(padding=False, elem_id='place')
        self.probable = gr.Label(label='Most probable classes', elem_id='probable')
        self.panels = []
        for method in self.explorer.methods:
            name = method.__name__.rsplit('.', 1)[-1]
            gr.Markdown(f'### {method.TITLE}\n{method.EXPLANATION}')
            self.panels += [
                gr.HTML(padding=False, elem_id=f'{name}-sentence'),
                gr.Plot(elem_id=f'{name}-figure', show_label=False, format='png'),
                gr.HTML(padding=False, elem_id=f'{name}-table', elem_classes='table'),
            ]

    def _connect(self, sources):
        pixel = [self.picture, self.column, self.row, self.place, self.probable, *self.panels]
        for inspect, source, events in sources:
            gr.on(
                events,
                self._shows(inspect),
                [source, self.cover],
                [self.inspection, self.caption, self.legend, *pixel],
                api_name=inspect.__name__,
                concurrency_id='model',
                concurrency_limit=1,
                show_progress_on=[self.picture],
                # A choice that is made while the model predicts counts, too.
                trigger_mode='always_last',
            )
        quick = dict(show_progress='hidden', trigger_mode='always_last')
        clicked = [self.inspection, self.cover]
        self.picture.select(self.show_clicked, clicked, pixel, api_visibility='private', **quick)
        events = [self.column.submit, self.row.submit, self.cover.input]
        place = [self.inspection, self.column, self.row, self.cover]
        gr.on(events, self.show_pixel, place, pixel, api_name='pixel', **quick)

    def _shows(self, inspect):
        """Return a function that shows the image that ``inspect`` reads."""

        @one_message()
        def show(value, cover):
            inspection = inspect(value)
            height, width = inspection.prediction.predicted.shape
            return [
                inspection,
                f'{escape(inspection.name)}, {width}×{height} pixels',
                legend(inspection.prediction),
                *self._answer(inspection, *inspection.telling_pixel(), cover),
            ]

        return show

    def show_clicked(self, inspection, cover, event: gr.SelectData):
        """Show the results at the pixel that was clicked."""
        factor = magnification(inspection.prediction)
        column, row = (int(place) // factor for place in event.index)
        return self.show_pixel(inspection, column, row, cover)

    @one_message()
    def show_pixel(self, inspection, column, row, cover):
        """Show the results at a pixel; for a place outside the image, at the nearest pixel."""
        if inspection is None:
            raise ValueError('choose an image first')
        last = np.subtract(inspection.prediction.predicted.shape, 1)
        row, column = np.clip([row or 0, column or 0], 0, last).tolist()
        return self._answer(inspection, row, column, cover)

    def _answer(self, inspection, row, column, cover):
        prediction = inspection.prediction
        picture = draw_picture(prediction, row, column, cover)
        text = f'<h3>{escape(inspection.describe(row, column))}</h3>'
        answer = [picture, column, row, text, inspection.probable_at(row, column)]
        aspect = prediction.predicted.shape[0] / prediction.predicted.shape[1]
        for method, context in inspection.methods:
            here = method.at_pixel(context, prediction, (row, column))
            size = PIXEL_WIDTH, mosaic_height(here.mosaic, PIXEL_WIDTH, aspect)
            figure = Figure(size, dpi=150, layout='constrained')
            draw_panels(figure, here.mosaic)
            rows = [['' if cell is None else cell for cell in row] for row in here.rows]
            table = pd.DataFrame(rows, columns=here.columns, dtype=object)
            numbers = dict(float_format='{:.4f}'.format, index=False, border=0)
            answer += [escape(here.sentence), figure, table.to_html(**numbers)]
        return answer


def magnification(prediction):
    """Return the factor by which the page enlarges the original image, an integer."""
    return max(1, -(-SMALLEST_SIDE // max(prediction.predicted.shape)))


def draw_picture(prediction, row, column, cover):
    """Return the image, enlarged, with a label map over it and a ring around a pixel."""
    image = Image.fromarray(cover_image(prediction, cover))
    factor = magnification(prediction)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    x, y = (factor * (place + 0.5) for place in (column, row))
    for colour, width in (('black', 4), ('white', 2)):
        radius = factor / 2 + max(image.size) / 60 + width / 2
        box = x - radius, y - radius, x + radius, y + radius
        ImageDraw.Draw(image).ellipse(box, outline=colour, width=width)
    return image


def cover_image(prediction, cover):
    """Return the image ``[H, W, 3]``, of the original size, with a label map over it.

    Where ``cover`` is ``'errors'``, the pixels whose prediction differs from the label are red.
    """
    predicted, label = prediction.predicted, prediction.label
    image = Image.fromarray(np.ascontiguousarray(prediction.image)).resize(predicted.shape[::-1])
    image = np.asarray(image)
    shown = {PREDICTION: predicted, NOTHING: None}.get(cover, label)
    if shown is None:
        return image
    colours, covered = colour_label(shown, prediction.palette), shown != IGNORED
    if cover == ERRORS:
        colours, covered = np.uint8(WRONG), covered & (predicted != label)
    mixed = (0.5 * image + 0.5 * colours + 0.5).astype(np.uint8)
    return np.where(covered[..., None], mixed, image)


def legend(prediction):
    """Return the classes of prediction and label as HTML, each with a patch of its colour."""
    entries = []
    for index in classes_in([prediction.predicted, prediction.label]):
        patch = '<span class="patch ignored"></span>'
        if index < len(prediction.classes):
            colour = '#{:02x}{:02x}{:02x}'.format(*prediction.palette[index])
            patch = f'<span class="patch" style="background:{colour}"></span>'
        # Names come from the checkpoint, which may be malicious.
        name = escape(class_name(index, prediction.classes))
        entries.append(f'<span class="entry">{patch}{name}</span>')
    return f'<div class="legend">{"".join(entries)}</div>'


def require_free(host, port):
    """Raise an OSError if no server can listen at an address."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        text = f'no server can listen at {host}:{port} ({error})'
        raise OSError(f'{text}; --port and --host name another place') from error


@contextmanager
def serving(explorer, model_name, images=(), host='127.0.0.1', port=7860):
    """Serve the page about a model while the context lasts, and yield its address.

    The first three arguments are as in :class:`Page`.

    Args:
        host (str): Address to listen at. Default: ``'127.0.0.1'``, which only this machine reaches.
        port (int): Port to listen at. Default: 7860.
    """
    blocks = Page(explorer, model_name, images).blocks
    try:
        # Gradio asks the page whether it is there. A proxy would not find this machine's address.
        with mock.patch.dict(os.environ, no_proxy='*'):
            _, address, _ = blocks.launch(
                server_name=f'[{host}]' if ':' in host else host,
                server_port=port,
                max_file_size='20mb',
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
                css=CSS,
            )
        yield address
    finally:
        blocks.close(verbose=False)


def serve(explorer, model_name, images, host, port):
    """Serve the page until the process gets SIGINT or SIGTERM; see :func:`serving`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(explorer, model_name, images, host, port) as address:
            if host not in ('127.0.0.1', 'localhost', '::1'):
                print('warning: everyone who reaches this address sees the images', file=sys.stderr)
            print(f'{model_name}: {address}', flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print('the page is closed')
