"""Answer the page: let one model predict images, and read its results at a pixel."""

import threading
from typing import NamedTuple

import torch
from mmseg.registry import DATASETS
from torch import Tensor

from mmseg_ctx.utils.configs import require
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.visualization.context import find_methods, read_context
from mmseg_ctx.visualization.explore.images import ImageFolder, read_image
from mmseg_ctx.visualization.files import build_transform
from mmseg_ctx.visualization.labels import class_name
from mmseg_ctx.visualization.scene import Scene

MOST_PROBABLE = 5


class Inspection(NamedTuple):
    """One image and everything that the page can show about it.

    Attributes:
        name (str): The image's name on the page.
        scene (Scene): The image and the prediction.
        methods (list[tuple[module, object]]): See :class:`mmseg_ctx.visualization.context.Context`.
        probable (Tensor): The most probable classes of each pixel, most probable first,
            ``[k, H, W]``.
        probabilities (Tensor): Their probabilities, ``[k, H, W]``.
    """

    name: str
    scene: Scene
    methods: list
    probable: Tensor
    probabilities: Tensor


class PixelPrediction(NamedTuple):
    """What the model predicts at a pixel.

    Attributes:
        predicted (str): The predicted class.
        label (str | None): The class of the ground truth, or ``'ignored'``; None if the image has
            no ground truth.
        probabilities (dict[str, float]): Probabilities by class, most probable first.
    """

    predicted: str
    label: str | None
    probabilities: dict


def most_probable(logits, count=MOST_PROBABLE):
    """Return the most probable classes of each pixel, and their probabilities.

    Args:
        logits (Tensor): ``[N, H, W]``; where N is 1, the probability of class 1.
        count (int): How many classes, if there are as many. Default: 5.

    Returns:
        tuple[Tensor, Tensor]: Classes and probabilities, ``[k, H, W]``.
    """
    classes, probabilities = [], []
    # Row by row, since the memory may not hold a second copy of an image's logits.
    for row in logits.unbind(1):  # [N, W]
        binary = row.size(0) == 1
        every = torch.cat([1 - row, row]) if binary else row.float().softmax(dim=0)
        best = every.topk(min(count, every.size(0)), dim=0)
        classes.append(best.indices.to(torch.int16).cpu())
        probabilities.append(best.values.cpu())
    return torch.stack(classes, dim=1), torch.stack(probabilities, dim=1)


def read_prediction(inspection, row, column):
    """Return the :class:`PixelPrediction` at a pixel of the original image."""
    scene = inspection.scene
    label = None
    if scene.label is not None:
        label = class_name(scene.label[row, column], scene.classes)
    probable = inspection.probable[:, row, column].tolist()
    names = [scene.classes[index] for index in probable]
    values = inspection.probabilities[:, row, column].tolist()
    predicted = scene.classes[int(scene.prediction[row, column])]
    return PixelPrediction(predicted, label, dict(zip(names, values, strict=True)))


class Explorer:
    """A model, and the images that it can predict.

    Args:
        segmentor (BaseSegmentor): A model from
            :func:`mmseg_ctx.checkpoints.segmentor.load_segmentor`.
        folder (str | Path | None): A folder of images. Default: None.

    Attributes:
        test_count (int): Number of images in the config's test data; 0 if it cannot be read.
        test_problem (str | None): Why the test data cannot be read.
        methods (list[module]): The files of the context methods in the decode head; may be empty.
        head_name (str): Name of the decode head's class.
        draws_scenes (bool): Whether the test data are context scenes; then new ones can be drawn.
        folder (ImageFolder | None): The folder of images.

    Raises:
        NotADirectoryError: ``folder`` is no folder.
        ValueError: The config has no test pipeline.
    """

    def __init__(self, segmentor, folder=None):
        self.folder = None if folder is None else ImageFolder(folder)
        self._segmentor = segmentor
        self._lock = threading.Lock()
        require(segmentor.cfg, 'test_dataloader.dataset.pipeline')
        self._config = segmentor.cfg.test_dataloader.dataset
        self._transform = build_transform(self._config.pipeline, 'LoadImageFromNDArray')
        head = last_head(segmentor)
        self.methods, self.head_name = find_methods(head), type(head).__name__
        self.draws_scenes = self._config.type == 'ContextScenesDataset'
        self._dataset, self.test_problem = None, None
        try:
            with value_errors('the test data of the config cannot be read'):
                self._dataset = DATASETS.build(self._config)
        except ValueError as error:
            self.test_problem = str(error)
        self.test_count = 0 if self._dataset is None else len(self._dataset)

    def inspect_test_image(self, index):
        """Return the :class:`Inspection` of an image of the test data, counted from 0."""
        if not 0 <= index < self.test_count:
            raise ValueError(
                f'the test data has the images 0 to {self.test_count - 1}, got {index}'
            )
        with value_errors(f'image {index} of the test data cannot be read'):
            item = self._dataset[index]
        return self._inspect(item, f'test image {index}')

    def inspect_scene(self, seed):
        """Return the :class:`Inspection` of a new context scene, drawn from a seed."""
        if not self.draws_scenes:
            raise ValueError('this model is not tested on context scenes')
        with value_errors(f'the scene of seed {seed} cannot be drawn'):
            dataset = DATASETS.build({**self._config, 'num_images': 1, 'seed': seed})
            item = dataset[0]
        return self._inspect(item, f'scene of seed {seed}')

    def inspect_folder_image(self, name):
        """Return the :class:`Inspection` of an image of the folder."""
        if self.folder is None:
            raise ValueError('no folder of images was given')
        return self._inspect_array(*self.folder.read(name), name)

    def inspect_upload(self, path):
        """Return the :class:`Inspection` of an uploaded file."""
        return self._inspect_array(*read_image(path, 'the uploaded file'), 'uploaded image')

    def _inspect_array(self, image, size, name):
        if image.shape[:2] != size:
            name = f'{name} (made smaller from {size[1]}×{size[0]})'
        results = dict(img=image[..., ::-1].copy(), seg_fields=[])  # BGR, as OpenCV reads files
        with value_errors(f'{name} cannot be prepared for the model'):
            item = self._transform(results)
        return self._inspect(item, name)

    def _inspect(self, item, name):
        # The recording hooks are on the model, so it must predict one image at a time.
        with self._lock, value_errors(f'the model cannot predict {name}'):
            scene, methods = read_context(self._segmentor, item, self._segmentor.dataset_meta)
        probable = most_probable(scene.logits)
        return Inspection(name, scene._replace(logits=None), methods, *probable)
