"""What `mim test` writes for the test servers of PASCAL VOC and Cityscapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_ctx.evaluation.voc_results import voc_palette
from tests.configs.training import prepare, runner, with_scales_and_flip
from tests.configs.zoo import PATHS
from tests.helpers import ROOT

CITYSCAPES_LABEL_IDS = (*(7, 8, 11, 12, 13, 17), *range(19, 29), 31, 32, 33)


def write_results(path, layout):
    """Test a config's shrunken model, at one scale and at several with ``--out``.

    Returns the data set's root, and the folder that the config names for the results.
    """
    config = prepare(ROOT / 'configs' / path, layout)
    config.load_from = None
    assert runner(with_scales_and_flip(config)).test() == {}
    results = Path(config.test_evaluator.output_dir)
    # What `mim test … --out elsewhere` sets.
    elsewhere = {'test_evaluator.output_dir': 'elsewhere', 'test_evaluator.keep_results': True}
    assert runner(config, **elsewhere).test() == {}
    assert {path.name for path in Path('elsewhere').iterdir()} == {
        path.name for path in results.iterdir()
    }
    return config.dataset.data_root, results


def test_voc_results_are_palette_pngs(folder):
    root, results = write_results(
        'dmnet/dmnet_r101-d8_4xb4-20k_voc12trainval-512x512.py', 'pascal_voc12_trainval'
    )
    assert str(results).endswith('results/VOC2012/Segmentation/comp6_test_cls')
    names = (folder / root / 'ImageSets/Segmentation/test.txt').read_text().split()
    assert sorted(path.name for path in results.iterdir()) == [f'{name}.png' for name in names]
    for name in names:
        with Image.open(results / f'{name}.png') as result:
            assert result.mode == 'P'
            assert result.size == Image.open(folder / root / f'JPEGImages/{name}.jpg').size
            assert np.array_equal(np.reshape(result.getpalette(), (-1, 3)), voc_palette())
            assert np.array(result).max() < 21


def test_cityscapes_results_are_label_ids(folder):
    [path] = (path for path in PATHS if 'cityscapestrainval' in path)
    root, results = write_results(path, 'cityscapes_trainval')
    images = sorted((folder / root / 'leftImg8bit/test').rglob('*.png'))
    results = sorted(results.iterdir())
    assert [path.name for path in results] == [path.name for path in images]
    for result, image in zip(results, images, strict=True):
        assert Image.open(result).size == Image.open(image).size
        assert set(np.unique(Image.open(result))) <= set(CITYSCAPES_LABEL_IDS)
