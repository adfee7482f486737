"""What the page shows of a model: its predictions for images, and its results at a pixel."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from PIL import Image, ImageOps

from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.images import read_image
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.visualization.context import find_methods, read_context
from mmseg_ctx.visualization.files import build_transform, test_dataset
from mmseg_ctx.visualization.labels import class_name
from mmseg_ctx.visualization.prediction import Prediction, most_probable, predict

MAX_SIDE = 1024
"""A user's image with a longer side is made smaller: the logits of all its pixels take memory."""
SUFFIXES = ('.bmp', '.jpg', '.jpeg', '.png', '.tif', '.tiff', '.webp')


class Inspection(NamedTuple):
    """One image and everything that the page can show about it.

    Attributes:
        name (str): The image's name on the page.
        prediction (Prediction): The image and what the model predicts for it, without the logits.
        methods (list[tuple[module, object]]): See :class:`mmseg_ctx.visualization.context.Context`.
        probable (np.ndarray): The most probable classes of each pixel, most probable first,
            ``[k, H, W]``.
        probabilities (np.ndarray): Their probabilities, ``[k, H, W]``.
        alone (np.ndarray | None): The classes ``[H, W]`` that the model predicts where it sees a
            quarter of the image at a time; None for a model that takes no smaller image.
    """

    name: str
    prediction: Prediction
    methods: list
    probable: np.ndarray
    probabilities: np.ndarray
    alone: np.ndarray | None

    def probable_at(self, row, column):
        """Return the probability of each of the most probable classes at a pixel, by name."""
        names = [self.prediction.classes[index] for index in self.probable[:, row, column]]
        return dict(zip(names, self.probabilities[:, row, column].tolist(), strict=True))

    def describe(self, row, column):
        """Return in words what the model predicts at a pixel, and what is right."""

        def name(label):
            return class_name(label[row, column], self.prediction.classes)

        text = f'Column {column}, row {row}: predicted {name(self.prediction.predicted)}'
        if self.prediction.label is not None:
            text += f', labelled {name(self.prediction.label)}'
        if self.alone is not None:
            text += f'; predicted from this quarter of the image alone: {name(self.alone)}'
        return text

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
        methods (list[module]): The files of the context methods in the decode head; may be empty.
        head_name (str): Name of the decode head's class.

    Raises:
        ValueError: The config has no test pipeline.
    """

    def __init__(self, segmentor):
        self._segmentor = segmentor
        self._transform = build_transform(test_dataset(segmentor.cfg).pipeline, array=True)
        head = last_head(segmentor)
        self.methods, self.head_name = find_methods(head), type(head).__name__
        self._dataset, self.test_problem = (), None
        try:
            with value_errors('the test data of the config cannot be read'):
                self._dataset = DATASETS.build(segmentor.cfg.test_dataloader.dataset)
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
            image = ImageOps.exif_transpose(read_image(path))
            if image.mode.startswith('I'):  # Pillow would cut 16 bits off, not scale them.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            width, height = image.size
            if max(width, height) > MAX_SIDE:
                image.thumbnail((MAX_SIDE, MAX_SIDE))
                name = f'{name} (made smaller from {width}×{height})'
            array = np.asarray(image.convert('RGB'))[..., ::-1].copy()  # BGR, as OpenCV reads
        with value_errors(f'{name} cannot be prepared for the model'):
            item = self._transform(dict(img=array, seg_fields=[]))
        return self._inspect(item, name)

    def _inspect(self, item, name):
        segmentor = self._segmentor
        with value_errors(f'the model cannot predict {name}'):
            prediction, methods = read_context(segmentor, item, segmentor.dataset_meta)
        probable = most_probable(prediction.logits)
        alone = None
        with suppress(Exception):  # Some models have a smallest size, or a fixed one.
            alone = predict_quarters(segmentor, item, prediction.predicted.shape)
        return Inspection(name, prediction._replace(logits=None), methods, *probable, alone)


def find_images(folder):
    """Return the paths of the images in a folder and its subfolders, sorted.

    Raises:
        NotADirectoryError: ``folder`` is no folder.
        ValueError: It has no images.
    """
    if not folder or not Path(folder).is_dir():  # Path('') is the current folder
        raise NotADirectoryError(f'{folder!r} is not a folder')
    paths = [path for path in Path(folder).rglob('*') if path.suffix.lower() in SUFFIXES]
    # No page can show a name that is not UTF-8.
    paths = sorted(path for path in paths if path.is_file() and str(path).isprintable())
    if not paths:
        raise ValueError(f'{folder} has no image: no file ends in {", ".join(SUFFIXES)}')
    return paths


def predict_quarters(segmentor, item, size):
    """Return the classes ``[H, W]`` that a segmentor predicts from quarters of an image alone.

    Args:
        segmentor (BaseSegmentor): In evaluation mode.
        item (dict): An item of a test data set.
        size (tuple[int, int]): H and W.
    """

    def classes(quarter):
        shape = tuple(quarter.shape[1:])
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        quarter = dict(inputs=quarter, data_samples=sample)
        return predict(segmentor, quarter, segmentor.dataset_meta).predicted

    halves = item['inputs'].tensor_split(2, dim=1)
    quarters = [[classes(part) for part in half.tensor_split(2, dim=2)] for half in halves]
    return np.asarray(Image.fromarray(np.block(quarters).astype(np.uint8)).resize(size[::-1], 0))
