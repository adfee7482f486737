"""The page of ``tools/explore.py``: what it shows of a model, and how Gradio's client gets it."""

import os
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.datasets.scenes import CLASSES, PALETTE, render_scene
from mmseg_ctx.visualization.explore.explorer import Explorer, Inspection, find_images
from mmseg_ctx.visualization.explore.page import CSS, Page, legend, serving
from mmseg_ctx.visualization.prediction import Prediction
from tests.helpers import free_port
from tests.small_models import build_segmentor, write_model

HEAD = 'CAC on DMNet'


@pytest.fixture(scope='module')
def make_explorer(tmp_path_factory):
    """A function that gives the explorer of a small model with one of the heads."""

    def make(head):
        return Explorer(load_segmentor(*write_model(head, tmp_path_factory.mktemp('model'))))

    return make


@pytest.fixture(scope='module')
def explorer(make_explorer):
    return make_explorer(HEAD)


@pytest.fixture
def picture(tmp_path):
    """The file of a picture of 50×90 pixels, and its array."""
    array = np.random.default_rng(2).integers(0, 256, (50, 90, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / 'my street.png')
    return tmp_path / 'my street.png', array


def predict(image):
    """The logits ``[N, H, W]`` of an RGB image, by a test step of its own."""
    data = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    shape = image.shape[:2]
    sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
    with torch.no_grad():
        (result,) = build_segmentor(HEAD).test_step(dict(inputs=[data], data_samples=[sample]))
    return result.seg_logits.data


def check(inspection, image, label=None):
    """Compare what is said about an image with a forward pass of its own."""
    logits = predict(image)
    np.testing.assert_array_equal(inspection.prediction.image, image)
    np.testing.assert_array_equal(inspection.prediction.predicted, logits.argmax(0))
    for row, column in ((0, 0), (17, 23)):
        expected = logits.softmax(0)[:, row, column].sort(descending=True)
        said = inspection.probable_at(row, column)
        assert list(said) == [CLASSES[index] for index in expected.indices[:5]]
        assert list(said.values()) == pytest.approx(expected.values[:5].tolist(), abs=1e-5)
        text = inspection.describe(row, column)
        name = CLASSES[expected.indices[0]]
        assert text.startswith(f'Column {column}, row {row}: predicted {name}')
        labelled = label is not None and [*CLASSES, 'ignored'][min(label[row, column], 14)]
        assert (f'; labelled {labelled};' in text) == (label is not None)
    # Each quarter of the image as an image of its own.
    height, width = (-(-size // 2) for size in image.shape[:2])
    quarters = np.zeros(image.shape[:2], int)
    for rows in (slice(height), slice(height, None)):
        for columns in (slice(width), slice(width, None)):
            quarters[rows, columns] = predict(image[rows, columns]).argmax(0)
    np.testing.assert_array_equal(inspection.alone, quarters)
    name = CLASSES[quarters[3, 4]]
    assert inspection.describe(3, 4).endswith(f'from this quarter of the image alone: {name}')


def test_every_source_of_images(explorer, picture):
    path, image = picture
    assert explorer.test_count == 3
    check(explorer.test_image(2), *render_scene(1, 2, 40, 64))
    inspection = explorer.file(path)
    check(inspection, image)
    assert inspection.name == 'my street.png'


def inspection_of(predicted, alone, probabilities, label=None):
    prediction = Prediction(None, (8, 8), predicted, label, CLASSES, PALETTE, 0, False)
    return Inspection('', prediction, [], None, probabilities[None], alone)


def test_it_opens_on_a_pixel_that_needs_the_whole_image():
    predicted, alone, label = np.zeros((3, 8, 8), int)
    probabilities = np.full((8, 8), 0.5)
    probabilities[3, 3] = 0.9  # sure, and right from its quarter alone
    probabilities[6, 2] = 0.8  # wrong
    label[6, 2] = alone[6, 2] = 1
    assert inspection_of(predicted, alone, probabilities, label).telling_pixel() == (3, 3)
    assert inspection_of(predicted, None, probabilities, label).telling_pixel() == (3, 3)
    alone[:, 4:] = 1
    probabilities[4, 4] = 0.7  # at the edge of a quarter
    probabilities[1, 6] = 0.6
    assert inspection_of(predicted, alone, probabilities, label).telling_pixel() == (1, 6)
    # Without a ground truth, any change counts.
    assert inspection_of(predicted, alone, probabilities).telling_pixel() == (6, 2)


@pytest.mark.parametrize('size', [(1, 1), (301, 5)])
def test_an_image_of_any_size(size, explorer, tmp_path):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'odd.png')
    inspection = explorer.file(tmp_path / 'odd.png')
    np.testing.assert_array_equal(inspection.prediction.predicted, predict(image).argmax(0))
    row, column = inspection.telling_pixel()
    assert 0 <= row < size[0]
    assert 0 <= column < size[1]
    last = size[0] - 1, size[1] - 1
    for method, context in inspection.methods:
        assert method.at_pixel(context, inspection.prediction, last).rows


@pytest.mark.parametrize('kind', ['ADE20KDataset', 'NoDatasetOfThisName'])
def test_test_data_that_is_not_here(kind, make_explorer, picture):
    segmentor = make_explorer('CTNet')._segmentor
    dataset = dict(
        type=f'mmseg.{kind}',
        data_root='absent',
        data_prefix=dict(img_path='images'),
        pipeline=[
            dict(type='mmcv.LoadImageFromFile'),
            dict(type='mmseg.Resize', scale=(128, 32), keep_ratio=True),
            dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
            dict(type='mmseg.PackSegInputs'),
        ],
    )
    wrapper = dict(type='ConcatDataset', datasets=[dataset, dataset])
    segmentor.cfg.test_dataloader.dataset = ConfigDict(wrapper)
    explorer = Explorer(segmentor)
    assert explorer.test_count == 0
    assert 'the test data of the config cannot be read' in explorer.test_problem
    # The image is resized for the model, and the prediction is of the image's own size.
    prediction = explorer.file(picture[0]).prediction
    assert prediction.image.shape == (32, 58, 3)
    assert prediction.predicted.shape == (50, 90)


def test_the_images_of_a_folder(tmp_path):
    names = ('b.png', 'city/a.JPG', 'note.txt', os.fsdecode(b'no \xff utf-8.png'))
    (tmp_path / 'city').mkdir()
    (tmp_path / 'folder.png').mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b'')
    assert find_images(tmp_path) == [str(tmp_path / name) for name in ('b.png', 'city/a.JPG')]
    with pytest.raises(ValueError, match=r"note\.txt' is no folder with a file .* \.bmp, "):
        find_images(str(tmp_path / 'note.txt'))


@pytest.fixture(scope='module')
def page(explorer):
    """The address of a page."""
    with serving(explorer, 'a model', port=free_port()) as address:
        yield address


@pytest.fixture
def client(page):
    return Client(page, verbose=False, download_files=False)


def check_answer(answer, address, inspection, row, column):
    """Check picture, place, bars, and sentence, figure and table of each method."""
    picture, shown_column, shown_row, text, bars, *panels = answer
    assert (shown_column, shown_row) == (column, row)
    assert inspection.describe(row, column) in text
    confidences = {each['label']: each['confidence'] for each in bars['confidences']}
    assert confidences == pytest.approx(inspection.probable_at(row, column))
    file = urllib.request.urlopen(f'{address}gradio_api/file={picture["path"]}')
    height, width = inspection.prediction.predicted.shape
    factor = -(-512 // max(height, width))
    assert Image.open(file).size == (factor * width, factor * height)
    assert len(panels) == 3 * len(inspection.methods)
    for index, (method, context) in enumerate(inspection.methods):
        sentence, figure, table = panels[3 * index : 3 * index + 3]
        expected = method.at_pixel(context, inspection.prediction, (row, column))
        assert sentence == expected.sentence
        assert figure['plot'].startswith('data:image/png;base64,')
        assert table.count('<tr') == len(expected.rows) + 1
        numbers = [f'{cell:.4f}' for cell in expected.rows[-1] if isinstance(cell, float)]
        assert numbers
        assert all(f'<td>{number}</td>' in table for number in numbers)


def test_the_page_shows_what_the_model_says(page, client, explorer, picture):
    path, _ = picture
    sources = {
        'test_image': (1, explorer.test_image(1)),
        'file': (handle_file(path), explorer.file(path)),
    }
    for name, (value, inspection) in sources.items():
        caption, names, *answer = client.predict(value, 'prediction', api_name=f'/{name}')
        height, width = inspection.prediction.predicted.shape
        assert caption == f'{inspection.name}, {width}×{height} pixels'
        assert CLASSES[inspection.prediction.predicted[0, 0]] in names
        check_answer(answer, page, inspection, *inspection.telling_pixel())
        # A place outside the image means the nearest pixel.
        for column, row in ((7, 31), (10**6, -1)):
            answer = client.predict(column, row, 'errors', api_name='/pixel')
            row, column = max(row, 0), min(column, width - 1)
            check_answer(answer, page, inspection, row, column)


def test_a_click_outside_the_picture_means_the_nearest_pixel(explorer):
    inspection = explorer.test_image(0)
    event = SimpleNamespace(index=[-40, 10**9])
    _, column, row, *_ = Page(explorer, 'a model').show_clicked(inspection, 'nothing', event)
    assert (column, row) == (0, 39)


def test_wrong_requests_are_one_message_and_the_page_lives_on(client, tmp_path, capfd):
    (tmp_path / 'text.png').write_text('<svg onload="alert(1)"/>')
    Image.new('RGB', (300, 300)).save(tmp_path / 'cut.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'cut.png').read_bytes()[:60])
    files = [handle_file(tmp_path / name) for name in ('text.png', 'cut.png')]
    for values, name, message in (
        ((1, 1), '/pixel', 'choose an image first'),
        (files[:1], '/file', 'text.png cannot be read as an im'),
        (files[1:], '/file', 'cut.png cannot be read as an im'),
    ):
        with pytest.raises(AppError) as caught:
            client.predict(*values, 'prediction', api_name=name)
        assert message in str(caught.value)
        assert '\n' not in str(caught.value)
    client.predict(0, 'prediction', api_name='/test_image')
    assert 'Traceback' not in capfd.readouterr().err


def test_the_legend_escapes_names_and_tells_ignored_pixels_from_black_ones(explorer):
    prediction = explorer.test_image(0).prediction
    names = ('<script>alert(1)</script>', *CLASSES[1:])
    html = legend(prediction._replace(classes=names, predicted=np.zeros((40, 64), int)))
    assert '<script>' not in html
    assert '&lt;script&gt;' in html
    assert f'background:#{"".join(f"{each:02x}" for each in PALETTE[0])}' in html
    assert '<span class="patch ignored"></span>ignored' in html
    assert '.ignored { background: repeating-linear-gradient' in CSS
