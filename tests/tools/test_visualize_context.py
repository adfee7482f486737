"""The command line of the context's sheets; what they show is tested with the package."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.datasets.scenes import CLASSES, render_scene
from mmseg_ctx.visualization.files import read_items
from tests.helpers import error_line, exit_status
from tests.small_models import write_model
from tools.visualize_context import main


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('ACNet', tmp_path_factory.mktemp('model'))


@pytest.fixture
def files(tmp_path):
    """An image and its label, in folders of images and labels."""
    paths = tmp_path / 'images/street.png', tmp_path / 'labels/street.png'
    for path, array in zip(paths, render_scene(1, 1, 48, 64), strict=True):
        path.parent.mkdir()
        Image.fromarray(array).save(path)
    return paths


def test_sheets(model, files, tmp_path, capsys):
    image, label = files
    out = tmp_path / 'new' / 'folder'
    assert exit_status(main, *model, image, 'test:2', '--out', out) == 0
    printed = capsys.readouterr()
    assert '2/2' in printed.err
    assert printed.out.split() == [str(out / 'street.png'), str(out / 'test-2.png')]
    assert sorted(out.iterdir()) == [out / 'street.png', out / 'test-2.png']
    for path in out.iterdir():
        assert Image.open(path).size[0] == 1440
    before = (out / 'street.png').read_bytes()
    line = error_line(capsys, main, *model, image, '--out', out)
    assert f'{out / "street.png"} exists; --force' in line
    # With the ground truth there is another picture.
    assert exit_status(main, *model, image, '--labels', label, '--out', out, '--force') == 0
    assert (out / 'street.png').read_bytes() != before
    capsys.readouterr()
    # Not even with --force: it is for sheets.
    for read in files:
        options = ('--labels', label, '--out', read.parent, '--force')
        assert f'{read} is read and would be' in error_line(capsys, main, *model, image, *options)
    (out / 'test-0.png').mkdir()
    line = error_line(capsys, main, 'missing.py', 'missing.pth', 'test:0', '--out', out, '--force')
    assert 'test-0.png is a folder' in line


def check_item(item, files):
    image, label = (np.array(Image.open(path)) for path in files)
    np.testing.assert_array_equal(item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1], image)
    np.testing.assert_array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), label)


def test_items(model, files):
    config = Config.fromfile(model[0])
    image, label = map(str, files)
    (item,) = read_items(config, [image], [label])
    check_item(item, files)
    (item,) = read_items(config, [image])
    assert 'gt_sem_seg' not in item['data_samples']
    (item,) = read_items(config, ['test:1'])
    expected = render_scene(1, 1, 40, 64)[1]
    np.testing.assert_array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), expected)


CLASSES_AS_TYPES = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
pipeline = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=PackSegInputs)]
dataset = dict(type=BaseSegDataset, pipeline=pipeline, **{data})
test_dataloader = dict(dataset=dict(type=ConcatDataset, datasets=[dataset, dataset]))
model = {model}
"""


def test_classes_as_types(model, files, tmp_path, capsys):
    """As in pure Python configs, here around two data sets."""
    data = dict(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        metainfo=dict(classes=CLASSES),
    )
    config = tmp_path / 'own.py'
    parts = dict(data=data, model=Config.fromfile(model[0]).model.to_dict())
    config.write_text(CLASSES_AS_TYPES.format(**parts))
    # Weights alone, as from other tools: the classes are the data set's, which has no colours.
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=torch.load(model[1])['state_dict']), checkpoint)
    images = files[0], 'test:1'
    assert exit_status(main, config, checkpoint, *images, '--out', tmp_path / 'out') == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'street.png', 'test-1.png'}
    segmentor = load_segmentor(config, checkpoint)
    assert segmentor.dataset_meta['classes'] == CLASSES
    assert len(segmentor.dataset_meta['palette']) == len(CLASSES)
    (item,) = read_items(segmentor.cfg, [str(files[0])], [str(files[1])])
    check_item(item, files)
    capsys.readouterr()
    line = error_line(capsys, main, config, checkpoint, 'test:2', '--out', tmp_path / 'out')
    assert "got 'test:2'" in line


def test_wrong_input_is_one_line_with_status_2(model, files, tmp_path, capsys):
    config, checkpoint = model
    image, label = files
    twin = tmp_path / 'twin' / image.name
    twin.parent.mkdir()
    twin.hardlink_to(image)
    out = '--out', tmp_path / 'out'
    cut, small, strange = (tmp_path / f'{name}.png' for name in ('cut', 'small', 'strange'))
    cut.write_bytes(image.read_bytes()[:200])
    Image.new('L', (8, 8)).save(small)
    Image.new('L', (64, 48), 77).save(strange)
    untested = '--cfg-options', 'test_dataloader=None'
    cases = [
        ((*out,), 'IMAGE'),
        (('absent.jpg', *out), 'absent.jpg is neither a file nor test:N'),
        ((config, *out), 'config.py cannot be read: '),
        (('test:3', *out), "must be test:0 to test:2, got 'test:3'"),
        ((image, '--labels', label, label, *out), 'of the 1 images, got 2'),
        ((image, twin, *out), 'images must differ in their names'),
        ((cut, *out), 'cut.png cannot be read: '),
        ((image, *untested, *out), 'has no test_dataloader.dataset'),
        ((image, '--labels', small, *out), 'must be of the size of the image'),
        ((image, '--labels', strange, *out), 'in [0, 14) or the ignore index 255'),
        (('test:1', '--labels', label, *out), 'labels must be for image files, but test:1 is'),
        ((image, '--out', label), 'street.png is not a folder'),
    ]
    for arguments, message in cases:
        assert message in error_line(capsys, main, config, checkpoint, *arguments)
    assert 'no.pth' in error_line(capsys, main, config, tmp_path / 'no.pth', image, *out)
    assert not (tmp_path / 'out').exists()
