"""The page: its Gradio components, and the functions that answer their events."""

import functools
from html import escape

import gradio as gr
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.visualization.explore.explorer import SUFFIXES
from mmseg_ctx.visualization.labels import class_name, classes_in, colour_label
from mmseg_ctx.visualization.panels import PIXEL_WIDTH

PREDICTION, TRUTH, ERRORS, NOTHING = 'prediction', 'ground truth', 'errors', 'nothing'
WRONG = (215, 48, 39)
SMALLEST_SIDE = 512
CSS = """
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; }
.entry { display: inline-flex; align-items: center; gap: 5px; overflow-wrap: anywhere; }
.patch { width: 14px; height: 14px; border: 1px solid #888; border-radius: 2px; }
/* Pixels that are ignored have no colour: the label map does not cover the image there. */
.ignored { background: repeating-linear-gradient(45deg, #fff 0 3px, #888 3px 6px); }
.table td, .table th { padding: 2px 12px !important; text-align: left; }
#picture img { cursor: crosshair; max-height: 85vh; }
/* An error is shown as a message; the picture stays. */
#picture [data-testid="status-tracker"]:has(.error) { display: none; }
@media (min-width: 900px) { #image-side { position: sticky; top: 8px; align-self: flex-start; } }
"""


def one_message(function):
    """Make a function show its ValueError or OSError as one message on the page."""

    @functools.wraps(function)
    def guarded(*arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except (ValueError, OSError) as error:
            raise gr.Error(escape(one_line(error)), title='', print_exception=False) from error

    return guarded


class Page:
    """The page about one model.

    Args:
        explorer (Explorer): The model.
        model_name (str): Name of the model on the page.
        images (Sequence[Path]): Images to choose from, beside the test data. Default: none.

    Attributes:
        blocks (gradio.Blocks): The page, whose ``launch`` serves it.
    """

    def __init__(self, explorer, model_name, images=()):
        self.explorer = explorer
        # Pictures are deleted after some minutes; there is one of each click.
        with gr.Blocks(
            title=model_name, analytics_enabled=False, fill_width=True, delete_cache=(600, 600)
        ) as self.blocks:
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
                    self._build_view()
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
                    button = gr.Button('Show this image')
                yield explorer.test_image, index, [index.release, button.click, self.blocks.load]
            if images:
                with gr.Tab('Folder'):
                    paths = [str(path) for path in images]
                    path = gr.Dropdown(paths, value=None, label='Image of the folder')
                yield explorer.file, path, [path.select]
            with gr.Tab('Upload'):
                upload = gr.UploadButton('Upload an image', file_types=list(SUFFIXES))
            yield explorer.file, upload, [upload.upload]
        if explorer.test_problem:
            gr.HTML(escape(explorer.test_problem))

    def _build_view(self):
        self.caption = gr.HTML(padding=False, elem_id='caption')
        options = dict(interactive=False, show_label=False, buttons=[])
        self.picture = gr.Image(format='png', elem_id='picture', **options)
        self.legend = gr.HTML(padding=False)
        with gr.Row():
            label = 'Over the image (errors are red)'
            covers = [PREDICTION, TRUTH, ERRORS, NOTHING]
            self.cover = gr.Radio(covers, value=PREDICTION, label=label, min_width=200)
            self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label='Opacity', min_width=160)
        with gr.Row():
            self.column = gr.Number(label='Column, from 0', precision=0, min_width=100)
            self.row = gr.Number(label='Row, from 0', precision=0, min_width=100)
            self.go = gr.Button('Show this pixel', min_width=120)

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
        if not self.explorer.methods:
            gr.HTML(f'There is no context to show of {escape(self.explorer.head_name)}.')

    def _connect(self, sources):
        view = [self.cover, self.opacity]
        pixel = [self.picture, self.column, self.row, self.place, self.probable, *self.panels]
        for inspect, source, events in sources:
            gr.on(
                events,
                self._shows(inspect),
                [source, *view],
                [self.inspection, self.caption, self.legend, self.cover, *pixel],
                api_name=inspect.__name__,
                concurrency_id='model',
                concurrency_limit=1,
                show_progress_on=[self.picture],
                # A choice that is made while the model predicts counts, too.
                trigger_mode='always_last',
            )
        quick = dict(show_progress='hidden', trigger_mode='always_last')
        clicked = [self.inspection, *view]
        self.picture.select(self.show_clicked, clicked, pixel, api_visibility='private', **quick)
        events = [self.go.click, self.column.submit, self.row.submit]
        events += [self.cover.input, self.opacity.release]
        place = [self.inspection, self.column, self.row, *view]
        gr.on(events, self.show_pixel, place, pixel, api_name='pixel', **quick)

    def _shows(self, inspect):
        """Return a function that shows the image that ``inspect`` reads."""

        @one_message
        def show(value, cover, opacity):
            inspection = inspect(value)
            prediction = inspection.prediction
            covers = [PREDICTION, NOTHING]
            if prediction.label is not None:
                covers[1:1] = [TRUTH, ERRORS]
            cover = cover if cover in covers else PREDICTION
            height, width = prediction.predicted.shape
            return [
                inspection,
                f'{escape(inspection.name)}, {width}×{height} pixels',
                legend(prediction),
                gr.Radio(covers, value=cover),
                *self._answer(inspection, *inspection.telling_pixel(), cover, opacity),
            ]

        return show

    def show_clicked(self, inspection, cover, opacity, event: gr.SelectData):
        """Show the results at the pixel that was clicked."""
        factor = magnification(inspection.prediction)
        column, row = (int(place) // factor for place in event.index)
        return self.show_pixel(inspection, column, row, cover, opacity)

    @one_message
    def show_pixel(self, inspection, column, row, cover, opacity):
        """Show the results at a pixel; for a place outside the image, at the nearest pixel."""
        if inspection is None:
            raise ValueError('choose an image first')
        last_row, last_column = (size - 1 for size in inspection.prediction.predicted.shape)
        row, column = min(max(row or 0, 0), last_row), min(max(column or 0, 0), last_column)
        return self._answer(inspection, row, column, cover, opacity)

    def _answer(self, inspection, row, column, cover, opacity):
        prediction = inspection.prediction
        picture = draw_picture(prediction, row, column, cover, opacity)
        text = f'<h3>{escape(inspection.describe(row, column))}</h3>'
        answer = [picture, column, row, text, inspection.probable_at(row, column)]
        for method, context in inspection.methods:
            here = method.read_pixel(context, prediction, row, column)
            figure = Figure((PIXEL_WIDTH, 1), dpi=150, layout='constrained')
            method.draw_pixel(figure, here, prediction, row, column)
            sentence, columns, rows = method.describe_pixel(here, prediction)
            table = pd.DataFrame(rows, columns=columns, dtype=object)
            numbers = dict(float_format='{:.4f}'.format, na_rep='', index=False, border=0)
            answer += [escape(sentence), figure, table.to_html(**numbers)]
        return answer


def magnification(prediction):
    """Return the factor by which the page enlarges the original image, an integer."""
    return max(1, -(-SMALLEST_SIDE // max(prediction.predicted.shape)))


def draw_picture(prediction, row, column, cover, opacity):
    """Return the image, enlarged, with a label map over it and a cross around a pixel."""
    image = Image.fromarray(cover_image(prediction, cover, opacity))
    factor = magnification(prediction)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    x, y = ((place + 0.5) * factor for place in (column, row))
    near, far = factor / 2 + 4, factor / 2 + 4 + max(image.size) / 40
    for colour, width in (('black', 5), ('white', 2)):
        for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ends = [(x + length * right, y + length * down) for length in (near, far)]
            draw.line(ends, colour, width)
    return image


def cover_image(prediction, cover, opacity):
    """Return the image ``[H, W, 3]``, of the original size, with a label map over it.

    Where ``cover`` is ``'errors'``, the pixels whose prediction differs from the label are red.
    """
    predicted, label = prediction.predicted, prediction.label
    image = Image.fromarray(np.ascontiguousarray(prediction.image)).resize(predicted.shape[::-1])
    image = np.asarray(image)
    if cover == NOTHING:
        return image
    shown = predicted if cover == PREDICTION else label
    colours, covered = colour_label(shown, prediction.palette), shown != IGNORED
    if cover == ERRORS:
        colours, covered = np.uint8(WRONG), covered & (predicted != label)
    mixed = (1 - opacity) * image + opacity * colours
    return np.where(covered[..., None], (mixed + 0.5).astype(np.uint8), image)


def legend(prediction):
    """Return the classes of prediction and label as HTML, each with a patch of its colour."""
    entries = []
    for index in classes_in([prediction.predicted, prediction.label]).tolist():
        patch = '<span class="patch ignored"></span>'
        if index < len(prediction.classes):
            colour = '#{:02x}{:02x}{:02x}'.format(*prediction.palette[index])
            patch = f'<span class="patch" style="background:{colour}"></span>'
        # Names come from the checkpoint, which may be malicious.
        name = escape(class_name(index, prediction.classes))
        entries.append(f'<span class="entry">{patch}{name}</span>')
    return f'<div class="legend">{"".join(entries)}</div>'
