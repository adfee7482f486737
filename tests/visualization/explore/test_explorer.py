"""Images from each place reach the model as a test of it would have them."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_ctx.datasets.scenes import CLASSES, render_scene
from mmseg_ctx.visualization.explore.explorer import Explorer, most_probable, read_prediction
from tests.models import build_segmentor


@pytest.fixture(scope='module')
def explorer(make_explorer):
    return make_explorer('CAC on DMNet')


def predict(explorer, image):
    """The logits ``[N, H, W]`` of an RGB image, by a test step of its own."""
    data = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    from mmseg.structures import SegDataSample

    shape = image.shape[:2]
    sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
    segmentor = build_segmentor('CAC on DMNet')
    with torch.no_grad():
        (result,) = segmentor.test_step(dict(inputs=[data], data_samples=[sample]))
    return result.seg_logits.data


def check(inspection, image, label, logits):
    np.testing.assert_array_equal(inspection.scene.image, image)
    np.testing.assert_array_equal(inspection.scene.prediction, logits.argmax(0))
    if label is None:
        assert inspection.scene.label is None
    else:
        np.testing.assert_array_equal(inspection.scene.label, label)
    probabilities = logits.softmax(0)
    for row, column in ((0, 0), (image.shape[0] - 1, image.shape[1] - 1), (17, 23)):
        said = read_prediction(inspection, row, column)
        expected = probabilities[:, row, column].sort(descending=True)
        assert list(said.probabilities) == [CLASSES[index] for index in expected.indices[:5]]
        assert list(said.probabilities.values()) == pytest.approx(
            expected.values[:5].tolist(), abs=1e-5
        )
        assert said.predicted == CLASSES[expected.indices[0]]
        if label is None:
            assert said.label is None
        else:
            assert said.label == [*CLASSES, 'ignored'][min(label[row, column], 14)]


def test_an_image_of_the_test_data(explorer):
    assert explorer.test_count == 3
    image, label = render_scene(1, 2, 40, 64)
    check(explorer.inspect_test_image(2), image, label, predict(explorer, image))


def test_a_new_scene(explorer):
    assert explorer.draws_scenes
    image, label = render_scene(77, 0, 40, 64)
    check(explorer.inspect_scene(77), image, label, predict(explorer, image))


def test_an_image_of_the_folder(explorer, picture_folder):
    image = np.array(Image.open(picture_folder / 'street.png'))
    check(explorer.inspect_folder_image('street.png'), image, None, predict(explorer, image))


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (301, 5), (64, 64)])
def test_an_upload_of_any_size(size, explorer, tmp_path):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'upload.bin', 'PNG')
    inspection = explorer.inspect_upload(tmp_path / 'upload.bin')
    np.testing.assert_array_equal(inspection.scene.image, image)
    assert inspection.scene.prediction.shape == size
    np.testing.assert_array_equal(inspection.scene.prediction, predict(explorer, image).argmax(0))
    for method, context in inspection.methods:
        here = method.read_pixel(context, inspection.scene, size[0] - 1, size[1] - 1)
        assert method.describe_pixel(here, inspection.scene).rows


def test_an_upload_that_was_made_smaller_says_so(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_ctx.visualization.explore.images.MAX_WORKING_PIXELS', 1000)
    Image.new('RGB', (80, 50)).save(tmp_path / 'upload.png')
    inspection = explorer.inspect_upload(tmp_path / 'upload.png')
    assert inspection.name == 'uploaded image (made smaller from 80×50)'
    assert inspection.scene.prediction.shape == (25, 40)


def test_one_forward_pass_an_image_and_none_a_pixel(make_explorer):
    explorer = make_explorer('ACNet')
    passes = []
    explorer._segmentor.backbone.register_forward_hook(lambda *_: passes.append(1))
    inspection = explorer.inspect_test_image(0)
    assert passes == [1]
    (method, context), scene = inspection.methods[0], inspection.scene
    for row in range(0, 40, 13):
        read_prediction(inspection, row, row)
        method.describe_pixel(method.read_pixel(context, scene, row, row), scene)
    assert passes == [1]


def test_wrong_requests(explorer, picture_folder, tmp_path):
    with pytest.raises(ValueError, match='the test data has the images 0 to 2, got 3'):
        explorer.inspect_test_image(3)
    with pytest.raises(ValueError, match='seed -1'):
        explorer.inspect_scene(-1)
    with pytest.raises(ValueError, match='the folder has no such image'):
        explorer.inspect_folder_image('../street.png')
    with pytest.raises(NotADirectoryError, match=r'street\.png is not a folder'):
        Explorer(explorer._segmentor, picture_folder / 'street.png')
    (tmp_path / 'no.png').write_text('nothing')
    with pytest.raises(ValueError, match='the uploaded file is no JPEG'):
        explorer.inspect_upload(tmp_path / 'no.png')


def test_test_data_that_is_not_here(make_explorer, picture_folder, tmp_path):
    segmentor = make_explorer('CTNet')._segmentor
    segmentor.cfg.test_dataloader.dataset = dict(
        type='ADE20KDataset',
        data_root='absent',
        data_prefix=dict(img_path='images'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(128, 32), keep_ratio=True),
            dict(type='LoadAnnotations', reduce_zero_label=True),
            dict(type='PackSegInputs'),
        ],
    )
    explorer = Explorer(segmentor, picture_folder)
    assert explorer.test_count == 0
    assert 'the test data of the config cannot be read' in explorer.test_problem
    assert not explorer.draws_scenes
    # The image is resized for the model, and the prediction is of the image's own size.
    scene = explorer.inspect_folder_image('street.png').scene
    assert scene.image.shape == (32, 58, 3)
    assert scene.prediction.shape == (50, 90)
    # Of so long an image, `Resize` would leave no column.
    Image.new('RGB', (1, 5000)).save(tmp_path / 'long.png')
    inspection = explorer.inspect_upload(tmp_path / 'long.png')
    assert inspection.name == 'uploaded image (made smaller from 1×5000)'
    assert inspection.scene.image.shape == (128, 1, 3)
    assert inspection.scene.prediction.shape == (256, 1)


def test_a_head_without_context(make_explorer):
    explorer = make_explorer('FCN')
    assert (explorer.methods, explorer.head_name) == ([], 'FCNHead')
    inspection = explorer.inspect_test_image(0)
    assert inspection.methods == []
    assert sum(read_prediction(inspection, 3, 4).probabilities.values()) <= 1


def test_the_most_probable_of_one_output_channel():
    probability = torch.tensor([[[0.2, 0.9]]])
    classes, probabilities = most_probable(probability)
    assert classes[:, 0].tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(probabilities[:, 0], torch.tensor([[0.8, 0.9], [0.2, 0.1]]))
