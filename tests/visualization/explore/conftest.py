import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.visualization.explore.explorer import Explorer
from tests.models import write_model


@pytest.fixture(scope='session')
def picture_folder(tmp_path_factory):
    """A folder of one image, of 50×90 pixels."""
    folder = tmp_path_factory.mktemp('pictures')
    array = np.random.default_rng(2).integers(0, 256, (50, 90, 3), np.uint8)
    Image.fromarray(array).save(folder / 'street.png')
    return folder


@pytest.fixture(scope='session')
def make_explorer(tmp_path_factory, picture_folder):
    """A function that gives the explorer of a small model with one of the heads."""

    def make(head):
        config, checkpoint = write_model(head, tmp_path_factory.mktemp('model'))
        return Explorer(load_segmentor(config, checkpoint), picture_folder)

    return make
