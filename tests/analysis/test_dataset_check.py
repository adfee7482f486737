"""The check of a data set, with each fault planted in a toy data set."""

import io
import os
import runpy
import tracemalloc

import numpy as np
import pytest
from mmengine import Config
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmseg_ctx.analysis.dataset_check import (
    Summary,
    check_dataset,
    draw_frequencies,
    frequency_table,
)
from mmseg_ctx.datasets.toy import LAYOUTS, make_toy_dataset
from mmseg_ctx.utils.commandline import run
from tests.helpers import ROOT


def toy(layout, folder, **kwargs):
    """Make a toy data set and return its root and the config of its training set."""
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{layout}.py')
    root = make_toy_dataset(layout, folder / config.dataset.data_root, **kwargs)
    return root, config.train_dataloader.dataset


def check(dataset, **kwargs):
    problems = []
    return check_dataset(dataset, report=problems.append, **kwargs), problems


@pytest.fixture
def ade20k(tmp_path, monkeypatch):
    """A good data set: root, label of its second image, config of its training set."""
    monkeypatch.chdir(tmp_path)
    root, dataset = toy('ade20k', tmp_path, num_images=3)
    return root, root / 'annotations/training/ADE_train_00000002.png', dataset


@pytest.mark.parametrize('layout', LAYOUTS)
def test_nothing_is_wrong_with_the_toy_data_sets(layout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, dataset = toy(layout, tmp_path, num_images=2)
    summary, problems = check(dataset)
    assert problems == []
    assert summary.bad_files == 0
    assert summary.images == (4 if layout == 'pascal_voc12_aug' else 2)
    assert summary.has_labels
    # Eleven cells of twelve are labelled; in PASCAL-Context with its background, all.
    labelled = summary.pixels.sum() / (summary.images * 64 * 96)
    assert labelled == pytest.approx(1 if layout == 'pascal_context' else 11 / 12, abs=0.01)


def test_frequencies_are_those_of_the_labels(ade20k):
    root, _, dataset = ade20k
    summary, _ = check(dataset)
    labels = [np.array(Image.open(path)) for path in (root / 'annotations/training').iterdir()]
    for index in range(150):
        found = [label == index + 1 for label in labels]
        assert summary.pixels[index] == np.sum(found)
        assert summary.occurrences[index] == sum(map(np.any, found))
    rows = frequency_table(summary).rows
    assert sum(row['share'] for row in rows) == pytest.approx(100)
    never = [row['name'] for row in rows if row['note'] == 'never occurs']
    assert 150 - len(never) == len(np.unique(labels)) - 1


@pytest.mark.parametrize(
    ('content', 'problem'),
    [(b'no picture', 'cannot be read'), (b'', 'cannot be read'), (None, 'No such file')],
)
def test_unreadable_label(ade20k, content, problem):
    _, label, dataset = ade20k
    label.unlink()
    if content is not None:
        label.write_bytes(content)
    summary, [line] = check(dataset)
    assert summary.bad_files == 1
    assert line.startswith(f'data/ade/ADEChallengeData2016/annotations/training/{label.name}: ')
    assert problem in line


@pytest.mark.parametrize('content', [b'no picture', b''])
def test_unreadable_image(ade20k, content):
    root, label, dataset = ade20k
    image = root / f'images/training/{label.stem}.jpg'
    image.write_bytes(content)
    summary, [line] = check(dataset)
    assert f'images/training/{image.name}: cannot be read: ' in line
    # Its label was read all the same.
    assert summary.pixels.sum() == pytest.approx(3 * 64 * 96 * 11 / 12, rel=0.02)


@pytest.mark.parametrize('folder', ['images', 'annotations'])
def test_file_that_ends_early(ade20k, folder):
    root, label, dataset = ade20k
    [path] = (root / folder / 'training').glob(f'{label.stem}.*')
    path.write_bytes(path.read_bytes()[:-40])
    _, [line] = check(dataset)
    assert f'{folder}/training/{path.name}: cannot be read: ' in line
    assert 'truncated' in line


def test_sizes_that_differ(ade20k):
    _, label, dataset = ade20k
    Image.open(label).crop((0, 0, 90, 60)).save(label)
    _, [line] = check(dataset)
    assert line.endswith(f'{label.name}: is 90×60 and its image 96×64 pixels')


def test_values_out_of_range(ade20k):
    _, label, dataset = ade20k
    values = np.array(Image.open(label))
    values[0, :2] = 151, 200
    Image.fromarray(values).save(label)
    _, [line] = check(dataset)
    assert line.endswith(f'{label.name}: has label values 151, 200; classes are 1 to 150')


def test_values_of_more_than_eight_bits(ade20k):
    _, label, dataset = ade20k
    values = np.array(Image.open(label)).astype(np.uint16)
    Image.fromarray(values).save(label)
    assert check(dataset)[1] == []
    values[0, 0] = 256 + 7  # 7, a class, to a reader of eight bits
    Image.fromarray(values).save(label)
    _, [line] = check(dataset)
    assert line.endswith(f'{label.name}: has label values up to 263')


def test_label_without_image(ade20k):
    root, label, dataset = ade20k
    (root / f'images/training/{label.stem}.jpg').unlink()
    summary, [line] = check(dataset)
    assert line.endswith(f'annotations/training/{label.name}: has no image')
    assert (summary.images, summary.bad_files) == (2, 1)


def test_steps_given_as_classes(ade20k):
    _, _, dataset = ade20k
    dataset.pipeline[1]['type'] = LoadAnnotations
    summary, problems = check(dataset)
    assert summary.has_labels
    assert problems == []


@pytest.mark.parametrize('kind', ['NoSuchStep', 'RandomCrop'])
def test_a_step_that_is_not_run_is_not_built(kind, ade20k):
    _, _, dataset = ade20k
    dataset.pipeline.append(dict(type=kind, no_such_argument=1))
    summary, problems = check(dataset)
    assert summary.has_labels
    assert problems == []


def test_a_step_named_with_its_registry(ade20k):
    _, label, dataset = ade20k
    dataset.pipeline[1]['type'] = 'mmseg.LoadAnnotations'
    label.write_bytes(b'')
    summary, (problem,) = check(dataset)
    assert summary.has_labels
    assert label.name in problem


def test_values_out_of_range_where_label_0_is_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, dataset = toy('cityscapes', tmp_path, num_images=1)
    [label] = root.glob('gtFine/train/*/*labelTrainIds.png')
    # The label that one forgets to convert: labelIds go up to 33.
    label.write_bytes(next(root.glob('gtFine/train/*/*labelIds.png')).read_bytes())
    _, [line] = check(dataset)
    assert 'classes are 0 to 18' in line


def test_two_faults_of_one_file_are_one_bad_file(ade20k):
    _, label, dataset = ade20k
    Image.fromarray(np.full((10, 20), 177, np.uint8)).save(label)
    summary, [line] = check(dataset)
    assert summary.bad_files == 1
    assert 'is 20×10 and its image 96×64 pixels; has label values 177' in line


def test_empty_label(ade20k):
    _, label, dataset = ade20k
    Image.fromarray(np.zeros((64, 96), np.uint8)).save(label)
    _, [line] = check(dataset)
    assert line.endswith(f'{label.name}: has no labelled pixel')


def test_coloured_label(ade20k):
    _, label, dataset = ade20k
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(label)
    _, [line] = check(dataset)
    assert line.endswith(f'{label.name}: has shape 64 × 96 × 3, not one class a pixel')


def test_every_bad_file_is_listed_by_workers_too(ade20k):
    root, label, dataset = ade20k
    label.write_bytes(b'')
    (root / 'images/training/ADE_train_00000001.jpg').write_bytes(b'')
    one = check(dataset)
    two = check(dataset, workers=2)
    assert one[1] == two[1]
    assert len(one[1]) == one[0].bad_files == two[0].bad_files == 2
    assert np.array_equal(one[0].pixels, two[0].pixels)


def test_progress_counts_every_image(ade20k):
    steps = []
    check(ade20k[2], progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_memory_does_not_grow(tmp_path, monkeypatch):
    def peak(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        root, dataset = toy('ade20k', folder, num_images=1)
        for kind in ('images', 'annotations'):
            [first] = (root / kind / 'training').iterdir()
            for copy in range(1, number):
                os.link(first, first.with_stem(f'ADE_train_{copy:04d}'))
        tracemalloc.start()
        assert check(dataset)[0].images == number
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)
    # Image and label have 25 kB of pixels together, the names of their files about 1 kB.
    assert peak(45) - peak(5) < 40 * 5_000


def test_split_without_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/cityscapes_trainval.py')
    make_toy_dataset('cityscapes', config.dataset.data_root, num_images=2)
    summary, problems = check(config.test_dataloader.dataset)
    assert (summary.images, problems, summary.has_labels) == (2, [], False)


def test_rendered_data_set_has_no_files_to_be_bad():
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/context_scenes.py')
    dataset = {**config.train_dataloader.dataset, 'num_images': 3}
    summary, problems = check(dataset)
    assert problems == []
    assert summary.images == 3
    assert summary.pixels.sum() > 0


def test_missing_folder(ade20k, tmp_path):
    dataset = {**ade20k[2], 'data_root': 'nowhere'}
    with pytest.raises(ValueError, match="ADE20KDataset cannot read the data set in 'nowhere': "):
        check(dataset)


def test_folder_without_images(ade20k):
    root, _, dataset = ade20k
    for image in (root / 'images/training').iterdir():
        image.unlink()
    with pytest.raises(
        ValueError, match=r"ADE20KDataset cannot read the data set in '.+ADEChallenge.+': "
    ):
        check(dataset)


def test_picture_names_every_class(ade20k):
    summary, _ = check(ade20k[2])
    [axes] = draw_frequencies(summary).axes
    labels = {label.get_text(): label.get_color() for label in axes.get_yticklabels()}
    assert set(labels) == set(summary.classes)
    never = [row['name'] for row in frequency_table(summary).rows if row['note']]
    assert {name for name, colour in labels.items() if colour == 'tab:red'} == set(never)


def test_picture_has_names_as_they_are():
    names = ['$1 \\frac{$', 'road', 'road']  # a wrong formula, and two classes of one name
    figure = draw_frequencies(Summary(names, True, np.array([1, 2, 3]), np.array([1, 1, 1])))
    figure.savefig(io.BytesIO())
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names


def test_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root, _ = toy('cityscapes', tmp_path, num_images=3)
    main = runpy.run_path(str(ROOT / 'tools/check_dataset.py'))['main']
    config = str(ROOT / 'configs/acnet/acnet_r50-d16_4xb4-80k_cityscapes-512x1024.py')
    assert main([config, '--out', 'good.png']) == 0
    output = capsys.readouterr()
    assert 'vegetation' in output.out
    assert '3 images, 0 bad files, picture: good.png' in output.out
    assert '3/3' in output.err
    with Image.open('good.png') as picture:
        assert picture.format == 'PNG'
    label = next(root.glob('gtFine/train/*/*labelTrainIds.png'))
    label.write_bytes(b'')
    assert main([config, '--out', 'good.png', '--force', '--workers', '1']) == 1
    assert f'{label.name}: cannot be read: no image' in capsys.readouterr().out
    for _ in range(2):  # its own file is replaced
        assert main([config, '--split', 'val']) == 0
    default = 'work_dirs/check_dataset/acnet_r50-d16_4xb4-80k_cityscapes-512x1024_val.png'
    assert (tmp_path / default).exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere.py'], 'nowhere.py'),
        (['{config}', '--split', 'training'], "invalid choice: 'training'"),
        (['{config}', '--workers', '-1'], "must be an integer >= 0, got '-1'"),
        (['{config}', '--out', 'there.png'], 'there.png exists; --force overwrites it'),
        (['{config}', '--out', 'no/where.png'], 'is not a folder'),
        (['{config}'], 'ADE20KDataset cannot read the data set in'),
        (['broken.py'], 'broken.py cannot be read as a config: SyntaxError'),
        (['divides.py'], 'divides.py cannot be read as a config: ZeroDivisionError'),
        (['empty.py', '--split', 'val'], 'empty.py has no val_dataloader.dataset'),
        (['unknown.py'], 'Unknown cannot read the data set in None: KeyError'),
        (['number.py'], 'a data set must be a dict, got 3'),
        # Before anything is read, or the config would be the first to complain.
        (['nowhere.py', '--out', 'a.xyz'], '--out: must end in one of '),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there.png').write_text('mine')
    (tmp_path / 'broken.py').write_text('model = dict(')
    (tmp_path / 'divides.py').write_text('model = 1 / 0')
    (tmp_path / 'empty.py').write_text('')
    dataset = dict(type='Unknown', pipeline=[])
    (tmp_path / 'unknown.py').write_text(f'train_dataloader = dict(dataset={dataset})')
    (tmp_path / 'number.py').write_text('train_dataloader = dict(dataset=3)')
    main = runpy.run_path(str(ROOT / 'tools/check_dataset.py'))['main']
    config = ROOT / 'configs/dmnet/dmnet_r101-d8_4xb4-120e_ade20k-576x576.py'
    with pytest.raises(SystemExit) as end:
        run(main, [argument.format(config=config) for argument in arguments])
    assert end.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith('error: ')
    assert message in error
    assert (tmp_path / 'there.png').read_text() == 'mine'
