"""What the page shows of a model: its predictions for images, and its results at a pixel."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.visualization.context import find_sheets, read_context
from mmseg_ctx.visualization.files import build_test_data, read_items, test_dataset_config
from mmseg_ctx.visualization.panels import class_name
from mmseg_ctx.visualization.prediction import Prediction, most_probable, predict

MAX_SIDE = 1024
"""A user's image with a longer side is made smaller: the logits of all its pixels take memory."""
SUFFIXES = ('.bmp', '.jpg', '.jpeg', '.png', '.tif', '.tiff', '.webp')


class Inspection(NamedTuple):
    """One image and everything that the page can show about it."""

    name: str  # the image's name on the page
    prediction: Prediction  # without the logits
    methods: list  # as mmseg_ctx.visualization.context.read_context returns them
    probable: np.ndarray  # the most probable classes of each pixel, first the best, [k, H, W]
    probabilities: np.ndarray  # their probabilities, [k, H, W]
    # Classes [H, W] predicted from a quarter of the image at a time; None if the model refuses it.
    alone: np.ndarray | None

    def probable_at(self, row, column):
        """Return the probability of each of the most probable classes at a pixel, by name."""
        names = [self.prediction.classes[index] for index in self.probable[:, row, column]]
        return dict(zip(names, self.probabilities[:, row, column].tolist(), strict=True))

    def describe(self, row, column):
        """Return in words what the model predicts at a pixel, and what is right."""
        said = {
            'predicted': self.prediction.predicted,
            'labelled': self.prediction.label,
            'predicted from this quarter of the image alone:': self.alone,
        }
        parts = [
            f'{words} {class_name(label[row, column], self.prediction.classes)}'
            for words, label in said.items()
            if label is not None
        ]
        return f'Column {column}, row {row}: {"; ".join(parts)}'

    def telling_pixel(self):
        """Return row and column of a pixel that shows what context is for.

        There the model is right, as far as one knows, and would predict another class from the
        quarter of the image alone. Of these pixels it is the one that the model is most sure of.
        Without such a pixel, it is the surest that is right.
        """
        predicted, label = self.prediction.predicted, self.prediction.label
        right = predicted == (predicted if label is None else label)
        score = self.probabilities[0] + right
        if self.alone is not None:
            # Close to the edge of a quarter, even a pixel's neighbours may be missing.
            places = ((np.arange(size) + 0.5) * 4 / size % 2 - 1 for size in right.shape)
            inner = np.ix_(*(abs(place) < 0.5 for place in places))  # -1 and 1 are the edges
            score[inner] += (right & (predicted != self.alone))[inner]
        return tuple(map(int, np.unravel_index(score.argmax(), score.shape)))


class Explorer:
    """A model, and the images that it can predict.

    Args:
        segmentor (BaseSegmentor): A model from
            :func:`mmseg_ctx.checkpoints.segmentor.load_segmentor`.

    Attributes:
        test_count (int): Number of images in the config's test data; 0 if it cannot be read.
        test_problem (str | None): Why the test data cannot be read.
        methods (list[module]): The sheets of the decode head.

    Raises:
        ValueError: The config has no test pipeline.
    """

    def __init__(self, segmentor):
        self._segmentor = segmentor
        test_dataset_config(segmentor.cfg)  # raises an error where there is none
        self.methods = find_sheets(last_head(segmentor))
        self._dataset, self.test_problem = (), None
        try:
            self._dataset = build_test_data(segmentor.cfg)
        except ValueError as error:
            self.test_problem = str(error)
        self.test_count = len(self._dataset)

    def test_image(self, index):
        """Return the :class:`Inspection` of an image of the test data, counted from 0."""
        with value_errors(f'image {index} of the test data cannot be read'):
            item = self._dataset[index]
        return self._inspect(item, f'test image {index}')

    def file(self, path):
        """Return the :class:`Inspection` of an image file."""
        name = Path(path).name
        with value_errors(f'{name} cannot be read as an image'):
            width, height = Image.open(path).size
            (item,) = read_items(self._segmentor.cfg, [str(path)], max_side=MAX_SIDE)
        smaller = f' (made smaller from {width}×{height})' * (max(width, height) > MAX_SIDE)
        return self._inspect(item, name + smaller)

    def _inspect(self, item, name):
        segmentor = self._segmentor
        with value_errors(f'the model cannot predict {name}'):
            prediction, methods = read_context(segmentor, item, segmentor.dataset_meta)
        probable = most_probable(prediction.logits)
        alone = None
        with suppress(Exception):  # Some models have a smallest size, or a fixed one.
            alone = _predict_quarters(segmentor, item, prediction.predicted.shape)
        return Inspection(name, prediction._replace(logits=None), methods, *probable, alone)


def find_images(folder):
    """Return the paths of the images in a folder and its subfolders, sorted: list[str].

    Raises:
        ValueError: There are none.
    """
    paths = [path for path in Path(folder).rglob('*') if path.suffix.lower() in SUFFIXES]
    # No page can show a name that is not UTF-8.
    paths = sorted(str(path) for path in paths if path.is_file() and str(path).isprintable())
    if not paths:
        raise ValueError(f'{folder!r} is no folder with a file that ends in {", ".join(SUFFIXES)}')
    return paths


def _predict_quarters(segmentor, item, size):
    """Return the classes ``[H, W]`` that a segmentor predicts from quarters of an image alone."""

    def classes(quarter):
        shape = tuple(quarter.shape[1:])
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        quarter = dict(inputs=quarter, data_samples=sample)
        return predict(segmentor, quarter, segmentor.dataset_meta).predicted

    halves = item['inputs'].tensor_split(2, dim=1)
    quarters = [[classes(part) for part in half.tensor_split(2, dim=2)] for half in halves]
    return np.asarray(Image.fromarray(np.block(quarters).astype(np.uint8)).resize(size[::-1], 0))
