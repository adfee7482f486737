"""The check of a data set, with each fault planted in a toy data set."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmseg_ctx.analysis.dataset_check import check_dataset, draw_frequencies, frequency_table
from tests.helpers import ROOT, error_line, exit_status
from tests.toy import LAYOUTS, make_toy_dataset
from tools.check_dataset import main

CITYSCAPES = ROOT / 'configs/ctnet/ctnet_r101v1d-jpu_4xb4-160k_cityscapes-512x1024.py'
OWN = dict(
    type='BaseSegDataset',
    data_root='mine',
    metainfo=dict(classes=('ground', 'road', 'roof')),
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
)


def toy(layout, num_images):
    """Make a toy data set and return its root and the config of its training set."""
    config = make_toy_dataset(layout, num_images)
    return Path.cwd() / config.dataset.data_root, config.train_dataloader.dataset


def check(dataset, **kwargs):
    problems = []
    return check_dataset(dataset, report=problems.append, **kwargs), problems


@pytest.fixture
def ade20k(tmp_path, monkeypatch):
    """A good data set: root, label of its second image, config of its training set."""
    monkeypatch.chdir(tmp_path)
    root, dataset = toy('ade20k', 3)
    return root, root / 'annotations/training/000001.png', dataset


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Function that writes a data set of one image with a label, and returns its config."""

    def write(label, suffix='.jpg', **changes):
        monkeypatch.chdir(tmp_path)
        label = Image.fromarray(np.asarray(label, np.uint8))
        for folder, image in ((f'images/a{suffix}', label.convert('RGB')), ('labels/a.png', label)):
            path = tmp_path / 'mine' / folder
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        return {**OWN, **changes}

    return write


@pytest.mark.parametrize('layout', LAYOUTS)
def test_nothing_is_wrong_with_the_toy_data_sets(layout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, dataset = toy(layout, 2)
    summary, problems = check(dataset)
    # A toy is a copy that ended early where the data set knows its size.
    missing = ['data/camvid: 365 images of the data set are missing']
    assert problems == (missing if layout == 'camvid' else [])
    assert summary.images == (4 if layout in ('pascal_voc12_aug', 'cityscapes_trainval') else 2)
    # Eleven cells of twelve are labelled.
    labelled = summary.pixels.sum() / (summary.images * 64 * 96)
    assert labelled == pytest.approx(11 / 12, abs=0.01)


def test_frequencies_are_those_of_the_labels(ade20k):
    root, _, dataset = ade20k
    summary, _ = check(dataset)
    labels = [np.array(Image.open(path)) for path in (root / 'annotations/training').iterdir()]
    for index in range(150):
        found = [label == index + 1 for label in labels]
        assert summary.pixels[index] == np.sum(found)
        assert summary.occurrences[index] == sum(map(np.any, found))
    rows = frequency_table(summary).rows
    never = {name for name, *_, note in rows if note == 'never occurs'}
    assert 150 - len(never) == len(np.unique(labels)) - 1
    [axes] = draw_frequencies(summary).axes
    colours = {label.get_text(): label.get_color() for label in axes.get_yticklabels()}
    assert set(colours) == set(summary.classes)
    assert {name for name, colour in colours.items() if colour == 'tab:red'} == never


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def relabel(change):
    """Return a function that changes the values of a label file."""
    return lambda path: Image.fromarray(change(np.array(Image.open(path)))).save(path)


DAMAGES = [
    ('annotations', lambda path: path.unlink(), 'No such file'),
    ('images', cut, 'truncated'),
    ('annotations', relabel(lambda x: x[:60, :90]), 'is 90×60 and its image 96×64 pixels'),
    ('annotations', relabel(lambda x: x + 150), '; classes are 1 to 150'),
    ('annotations', relabel(lambda x: x[:9] * 0 + 177), '96×64 pixels; has label values 177'),
    ('annotations', relabel(lambda x: 0 * x), 'no labelled pixel'),
    ('annotations', relabel(lambda x: np.stack([x] * 3, 2)), 'has shape 64 × 96 × 3, not one'),
    # 263 would be read as 7, a class.
    ('annotations', relabel(lambda x: x.astype(np.uint16) + 256), 'has label values up to'),
]


def test_bad_file(ade20k):
    root, label, dataset = ade20k
    for kind, damage, problem in DAMAGES:
        [path] = (root / kind / 'training').glob(f'{label.stem}.*')
        content = path.read_bytes()
        damage(path)
        summary, [line] = check(dataset)
        assert summary.bad_files == 1
        assert line.startswith(f'data/ade/ADEChallengeData2016/{kind}/training/{path.name}: ')
        assert problem in line
        path.write_bytes(content)


def test_label_without_image(ade20k):
    root, label, dataset = ade20k
    (root / f'images/training/{label.stem}.jpg').unlink()
    summary, [line] = check(dataset)
    assert line.endswith(f'annotations/training/{label.name}: has no image')
    assert (summary.images, summary.bad_files) == (2, 1)


def test_steps_given_as_classes_or_with_a_scope(ade20k):
    _, label, dataset = ade20k
    # A step that is not run is not built.
    dataset.pipeline.append(dict(type='NoSuchStep', no_such_argument=1))
    for kind in (LoadAnnotations, 'mmseg.LoadAnnotations'):
        dataset.pipeline[1]['type'] = kind
        assert check(dataset)[1] == []
    label.write_bytes(b'')
    _, (problem,) = check(dataset)
    assert label.name in problem


ZERO = dict(reduce_zero_label=True)
# As new_config.py writes it.
WITHOUT_ROOT = dict(
    ZERO, data_root=None, data_prefix=dict(img_path='mine/images', seg_map_path='mine/labels')
)


@pytest.mark.parametrize(
    ('label', 'changes', 'expected'),
    [
        ([[1, 2], [2, 3]], {}, [r'values 3; classes are 0 to 2, or from 1 with reduce_zero_label']),
        ([[0, 1], [2, 3]], ZERO, []),
        ([[0, 1], [2, 2]], ZERO, ['^mine: label 0 is ignored .* set reduce_zero_label=False']),
        ([[0, 1], [2, 2]], WITHOUT_ROOT, ['^mine/images: label 0 is ignored']),
        (
            [[0, 1], [2, 3]],
            dict(ZERO, ignore_index=11),
            ['values 0 or 255, which become 255; classes are 1 to 3, and ignore_index is 11$'],
        ),
    ],
)
def test_labels_that_begin_at_0_or_1(label, changes, expected, own):
    summary, problems = check(own(label, **changes))
    assert len(problems) == len(expected)
    assert all(map(re.search, expected, problems))
    ignored = [line for line in problems if 'label 0 is ignored' in line]
    assert (summary.bad_files, summary.wrong_settings) == (
        len(problems) - len(ignored),
        len(ignored),
    )


def test_images_that_pillow_refuses_but_training_reads(own, monkeypatch):
    dataset = own(np.ones((40, 40)))
    label = Image.new('L', (4, 4), 1)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 400)  # an image of 1,600 is a "bomb" then
    label.save('mine/labels/a.png')
    _, [line] = check(dataset)
    assert 'is 4×4 and its image 40×40' in line
    assert Image.MAX_IMAGE_PIXELS == 400


@pytest.mark.parametrize(
    ('changes', 'messages'),
    [
        (dict(img_suffix='.png'), ['mine/images has no .png file', '.jpg (1)']),
        (dict(ann_file='empty.txt'), ['mine/empty.txt lists no image']),
        (dict(data_prefix=dict(img_path='nowhere')), ['BaseSegDataset cannot read', "'mine'"]),
        (dict(metainfo=None), ["'classes'"]),
        (
            dict(pipeline=[dict(type='LoadAnnotations', reduce_zero_label=True)]),
            ['set reduce_zero_label in the data set'],
        ),
    ],
)
def test_data_set_that_cannot_be_read(changes, messages, own, tmp_path):
    dataset = own([[0, 1, 2]], **changes)
    (tmp_path / 'mine/empty.txt').touch()
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the messages are below
        check(dataset)
    assert all(message in str(error.value) for message in messages)


def test_parts_with_different_classes(own):
    first = own([[0, 1, 2]])
    other = dict(first, metainfo=dict(classes=('ground', 'road', 'tree', 'sky')))
    with pytest.raises(ValueError, match=r'must have the same classes.* roof, sky and 1 more'):
        check(dict(type='ConcatDataset', datasets=[first, other]))
    summary, _ = check(dict(type='ConcatDataset', datasets=[first, first]))
    assert summary.images == 2


def test_every_bad_file_is_listed_by_workers_too(ade20k):
    root, label, dataset = ade20k
    label.write_bytes(b'')
    (root / 'images/training/000000.jpg').write_bytes(b'')
    steps = []
    one = check(dataset, progress=lambda *step: steps.append(step))
    two = check(dataset, workers=2)
    assert one[1] == two[1]
    assert len(one[1]) == one[0].bad_files == two[0].bad_files == 2
    assert np.array_equal(one[0].pixels, two[0].pixels)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root, _ = toy('cityscapes', 3)
    assert main([str(CITYSCAPES), '--out', 'good.png']) == 0
    output = capsys.readouterr()
    assert 'vegetation' in output.out
    assert '3 images, 0 bad files, picture: good.png' in output.out
    assert '3/3' in output.err
    head = ['--cfg-options', 'model.decode_head.num_classes=4']
    assert main([str(CITYSCAPES), *head]) == 1
    message = 'model.decode_head.num_classes is 4, and the data set has 19 classes'
    assert message in capsys.readouterr().out
    label = next(root.glob('gtFine/train/*labelTrainIds.png'))
    # The label that one forgets to convert: labelIds go up to 33.
    relabel(lambda values: np.full_like(values, 33))(label)
    assert main([str(CITYSCAPES), '--out', 'good.png', '--force', '--workers', '1']) == 1
    assert 'classes are 0 to 18' in capsys.readouterr().out
    for _ in range(2):  # its own file is replaced
        assert main([str(CITYSCAPES), '--split', 'val']) == 0
    assert (tmp_path / f'work_dirs/check_dataset/{CITYSCAPES.stem}_val.png').exists()


def test_a_reader_that_goes_away(own, tmp_path, monkeypatch):
    """As in ``check_dataset.py … | head``: there is no traceback."""
    (tmp_path / 'own.py').write_text(f'train_dataloader = dict(dataset={own(np.full((2, 2), 9))})')
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w', buffering=1) as pipe:
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert exit_status(main, 'own.py') == 141


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{config}', '--out', 'there.png'], 'there.png exists; --force overwrites it'),
        (['{config}'], 'CityscapesDataset cannot read the data set in'),
        (['unknown.py'], 'Unknown cannot read the data set in None: KeyError'),
        # Before anything is read, or the config would be the first to complain.
        (['nowhere.py', '--out', 'a.xyz'], '--out: must end in one of '),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there.png').write_text('mine')
    dataset = dict(type='Unknown', pipeline=[])
    (tmp_path / 'unknown.py').write_text(f'train_dataloader = dict(dataset={dataset})')
    arguments = [argument.format(config=CITYSCAPES) for argument in arguments]
    assert message in error_line(capsys, main, *arguments)
    assert (tmp_path / 'there.png').read_text() == 'mine'
