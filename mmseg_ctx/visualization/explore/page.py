"""The page: its Gradio components, and the functions that answer their events."""

import functools
import re
from html import escape
from pathlib import Path

import gradio as gr
from gradio_client.utils import is_http_url_like

from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.visualization.explore.explorer import read_prediction
from mmseg_ctx.visualization.explore.images import MAX_FILE_BYTES, SUFFIXES
from mmseg_ctx.visualization.explore.pictures import (
    ERRORS,
    NOTHING,
    PREDICTION,
    TRUTH,
    cover_image,
    data_url,
    draw_pixel,
    legend,
    magnification,
    show_place,
)

PROGRESS = gr.Progress()
MAX_SEED = 9999
CSS = """
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; }
.entry { display: inline-flex; align-items: center; gap: 5px; overflow-wrap: anywhere; }
.patch { width: 14px; height: 14px; border: 1px solid #888; border-radius: 2px; }
/* A tall picture is as high as the window. */
#picture img { cursor: crosshair; max-height: 85vh; }
/* An error is shown as a message; the picture stays. */
#picture [data-testid="status-tracker"]:has(.error) { display: none; }
@media (max-width: 600px) {
  /* On a phone, all tabs and all columns of a table stay side by side; margins are reduced. */
  #sides { margin: 0 -20px; width: calc(100% + 40px); }
  [role=tab] { padding: 0 8px !important; }
  [id$="-table"] * { font-size: 11px !important; }
  [id$="-table"] .cell-wrap { padding: 2px !important; }
}
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


def plain(text):
    """Escape a text, so that Markdown and HTML show it as it is."""
    return re.sub(r'([\\`*_{}\[\]()#+!|~$.-])', r'\\\1', escape(str(text), quote=False))


class Page:
    """The page about one model.

    Args:
        explorer (Explorer): The model and its images.
        model_name (str): Name of the model on the page.

    Attributes:
        blocks (gradio.Blocks): The page for
            :func:`mmseg_ctx.visualization.explore.server.serving` to serve.
    """

    def __init__(self, explorer, model_name):
        self.explorer = explorer
        with gr.Blocks(
            title=f'{model_name} · mmseg-ctx',
            analytics_enabled=False,
            fill_width=True,
        ) as self.blocks:
            gr.Markdown(
                '## What did the model do with this pixel?\n'
                'Choose an image, then **click a pixel** in it. Beside or below the image, the '
                'page shows what the model predicts there and the context that it used.\n\n'
                f'Model: `{model_name}`'
            )
            self.inspection = gr.State(None, time_to_live=3600)
            with gr.Row(elem_id='sides'):
                with gr.Column(scale=5, min_width=340, elem_id='image-side'):
                    self._build_sources()
                    self._build_view()
                with gr.Column(scale=6, min_width=340):
                    self._build_answer()
            self._connect()

    def _build_sources(self):
        """Add a tab for each source of images; the first one is open."""
        explorer = self.explorer
        with gr.Tabs():
            if explorer.test_count:
                with gr.Tab('Test data'):
                    last = max(explorer.test_count - 1, 1)
                    self.test_index = gr.Slider(0, last, 0, step=1, label='Image of the test data')
                    self.show_test = gr.Button('Show this image')
            if explorer.draws_scenes:
                with gr.Tab('Scene'):
                    label = 'Seed of a new context scene'
                    self.seed = gr.Slider(2, MAX_SEED, 2, step=1, label=label)
                    self.show_scene = gr.Button('Show this scene')
            if explorer.folder is not None:
                with gr.Tab('Folder'):
                    self.file_name = gr.Dropdown(
                        explorer.folder.names(), value=None, label='Image of the folder'
                    )
            with gr.Tab('Upload'):
                text = f'Upload an image (at most {MAX_FILE_BYTES // 1024**2} MB)'
                self.upload = upload_button(text)
                gr.Markdown('It is read once and kept nowhere.')
        if explorer.test_problem:
            gr.Markdown(plain(explorer.test_problem))

    def _build_view(self):
        self.caption = gr.Markdown(elem_id='caption')
        self.picture = inline_image(elem_id='picture', show_label=False, buttons=[])
        self.legend = gr.HTML()
        with gr.Row():
            self.cover = gr.Radio(
                # An image without a label has fewer. But a browser whose session has expired may
                # send any of these, and gets a message then.
                [PREDICTION, TRUTH, ERRORS, NOTHING],
                value=PREDICTION,
                label='Over the image (errors are red)',
                min_width=200,
            )
            self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label='Opacity', min_width=160)
        with gr.Row():
            self.column = gr.Number(label='Column, from 0', precision=0, min_width=100)
            self.row = gr.Number(label='Row, from 0', precision=0, min_width=100)
            self.go = gr.Button('Show this pixel', min_width=120)

    def _build_answer(self):
        self.place = gr.Markdown(elem_id='place')
        self.probable = gr.Label(label='Most probable classes', elem_id='probable')
        self.panels = []
        for method in self.explorer.methods:
            name = method.__name__.rsplit('.', 1)[-1]
            gr.Markdown(f'### {method.TITLE}\n{method.EXPLANATION}')
            self.panels += [
                gr.Markdown(elem_id=f'{name}-sentence'),
                inline_image(elem_id=f'{name}-figure', show_label=False, buttons=[]),
                gr.Dataframe(
                    elem_id=f'{name}-table',
                    interactive=False,
                    max_height=320,
                    wrap=True,
                    buttons=[],
                ),
            ]
        if not self.explorer.methods:
            gr.Markdown(
                f'{plain(self.explorer.head_name)} is none of the five context methods: '
                'there is no context to show.'
            )

    def _connect(self):
        """Connect events of components to the functions that answer them."""
        image = [self.inspection, self.caption, self.picture, self.legend]
        image += [self.cover, self.column, self.row]
        pixel = [self.place, self.probable, *self.panels]
        view = [self.cover, self.opacity]
        slow = dict(
            outputs=[*image, *pixel],
            concurrency_id='model',
            concurrency_limit=1,
            show_progress='full',
            show_progress_on=[self.picture],
            # A choice that is made while the model predicts counts, too.
            trigger_mode='always_last',
        )
        place = [self.inspection, self.column, self.row, *view]
        quick = dict(show_progress='hidden', trigger_mode='always_last')
        if self.explorer.test_count:
            gr.on(
                [self.test_index.release, self.show_test.click],
                self.show_test_image,
                [self.test_index, *view],
                api_name='test_image',
                **slow,
            )
        if self.explorer.draws_scenes:
            gr.on(
                [self.seed.release, self.show_scene.click],
                self.show_new_scene,
                [self.seed, *view],
                api_name='scene',
                **slow,
            )
        if self.explorer.folder is not None:
            # Gradio sends the event `input` twice for each choice.
            self.file_name.select(
                self.show_file, [self.file_name, *view], api_name='folder_image', **slow
            )
            self.blocks.load(self.list_folder, None, self.file_name, api_name='folder')
        self.upload.upload(self.show_upload, [self.upload, *view], api_name='upload', **slow)
        if self.explorer.test_count:
            self.blocks.load(
                self.show_test_image, [self.test_index, *view], api_visibility='private', **slow
            )
        self.picture.select(
            self.show_clicked,
            [self.inspection, *view],
            [self.column, self.row, self.picture, *pixel],
            api_visibility='private',
            **quick,
        )
        gr.on(
            [self.go.click, self.column.submit, self.row.submit],
            self.show_pixel,
            place,
            [self.picture, *pixel],
            api_name='pixel',
            **quick,
        )
        gr.on(
            [self.cover.input, self.opacity.input],
            self.draw_picture,
            place,
            self.picture,
            api_name='picture',
            **quick,
        )

    @one_message
    def list_folder(self):
        """Return the names of the folder's images as choices."""
        return gr.Dropdown(choices=self.explorer.folder.names())

    @one_message
    def show_test_image(self, index, cover, opacity, progress=PROGRESS):
        """Show an image of the test data."""
        progress(0.2, desc='The model reads the image')
        return self._show(self.explorer.inspect_test_image(int(index)), cover, opacity, progress)

    @one_message
    def show_new_scene(self, seed, cover, opacity, progress=PROGRESS):
        """Draw a new context scene and show it."""
        progress(0.2, desc='The model reads the scene')
        return self._show(self.explorer.inspect_scene(int(seed)), cover, opacity, progress)

    @one_message
    def show_file(self, name, cover, opacity, progress=PROGRESS):
        """Show an image of the folder."""
        progress(0.2, desc='The model reads the image')
        return self._show(self.explorer.inspect_folder_image(str(name)), cover, opacity, progress)

    @one_message
    def show_upload(self, path, cover, opacity, progress=PROGRESS):
        """Show an uploaded image, and delete its file."""
        if path is None:
            raise ValueError('no file was uploaded')
        progress(0.2, desc='The model reads the image')
        try:
            inspection = self.explorer.inspect_upload(Path(path))
        finally:
            Path(path).unlink(missing_ok=True)
        return self._show(inspection, cover, opacity, progress)

    def _show(self, inspection, cover, opacity, progress):
        progress(0.9, desc='The page is drawn')
        scene = inspection.scene
        covers = [PREDICTION, NOTHING]
        if scene.label is not None:
            covers[1:1] = [TRUTH, ERRORS]
        cover = cover if cover in covers else PREDICTION
        height, width = scene.prediction.shape
        row, column = height // 2, width // 2
        return [
            inspection,
            f'{plain(inspection.name)}, {width}×{height} pixels',
            self._picture(inspection, column, row, cover, opacity),
            legend(scene),
            gr.Radio(covers, value=cover),
            gr.Number(column, maximum=width - 1, minimum=0),
            gr.Number(row, maximum=height - 1, minimum=0),
            *self._answer(inspection, column, row),
        ]

    @one_message
    def show_clicked(self, inspection, cover, opacity, event: gr.SelectData):
        """Show the results at the pixel that was clicked."""
        _require_image(inspection)
        factor = magnification(inspection.scene)
        column, row = (int(place) // factor for place in event.index)
        return [column, row, *self._pixel(inspection, column, row, cover, opacity)]

    @one_message
    def show_pixel(self, inspection, column, row, cover, opacity):
        """Show the results at a pixel."""
        _require_image(inspection)
        return self._pixel(inspection, column, row, cover, opacity)

    @one_message
    def draw_picture(self, inspection, column, row, cover, opacity):
        """Show the image with another label map over it, or with another opacity."""
        _require_image(inspection)
        column, row = _check_place(inspection, column, row)
        return self._picture(inspection, column, row, cover, opacity)

    def _pixel(self, inspection, column, row, cover, opacity):
        column, row = _check_place(inspection, column, row)
        return [
            self._picture(inspection, column, row, cover, opacity),
            *self._answer(inspection, column, row),
        ]

    def _picture(self, inspection, column, row, cover, opacity):
        scene = inspection.scene
        if cover in (TRUTH, ERRORS) and scene.label is None:
            raise ValueError('this image has no ground truth')
        if not 0 <= opacity <= 1:
            raise ValueError(f'the opacity must be 0 to 1, got {opacity}')
        return show_place(cover_image(scene, cover, opacity), magnification(scene), row, column)

    def _answer(self, inspection, column, row):
        """Return the components beside the image: text, bars, and a panel for each method."""
        scene = inspection.scene
        prediction = read_prediction(inspection, row, column)
        text = f'### Column {column}, row {row}: predicted {plain(prediction.predicted)}'
        if prediction.label is not None:
            text += f', labelled {plain(prediction.label)}'
        answer = [text, prediction.probabilities]
        for method, context in inspection.methods:
            here = method.read_pixel(context, scene, row, column)
            sentence, columns, rows = method.describe_pixel(here, scene)
            answer += [
                plain(sentence),
                draw_pixel(method, here, scene, row, column),
                dict(headers=list(columns), data=[list(map(_rounded, row)) for row in rows]),
            ]
        return answer


def inline_image(**options):
    """Return an image component that sends its pictures within the answer.

    Gradio's component writes each picture to a file and serves the file.
    """
    image = gr.Image(interactive=False, **options)

    def postprocess(value):
        return None if value is None else gr.components.image.ImageData(url=data_url(value))

    image.postprocess = postprocess
    return image


def upload_button(text):
    """Return a button that passes the path of the uploaded file to its function.

    Gradio's button also fetches files from any address that a request names, and leaves an empty
    file behind.
    """
    button = gr.UploadButton(text, file_types=list(SUFFIXES))
    move = button.async_move_resource_to_block_cache

    async def move_file(path):
        if is_http_url_like(str(path)):
            raise gr.Error('Upload a file.', print_exception=False)
        return await move(path)

    button.async_move_resource_to_block_cache = move_file
    button.preprocess = lambda file: None if file is None else file.path
    return button


def _require_image(inspection):
    if inspection is None:
        raise ValueError('choose an image first')


def _check_place(inspection, column, row):
    height, width = inspection.scene.prediction.shape
    for name, value, count in (('column', column, width), ('row', row, height)):
        if value is None or not 0 <= value < count:
            raise ValueError(f'the {name} must be 0 to {count - 1}, got {value}')
    return int(column), int(row)


def _rounded(value):
    return '' if value is None else round(value, 4) if isinstance(value, float) else value
