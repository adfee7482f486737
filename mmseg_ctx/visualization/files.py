"""From image files, as a config's test pipeline prepares them, to files of sheets."""

from pathlib import Path

import cv2
from mmengine.dataset import Compose
from mmseg.registry import DATASETS

from mmseg_ctx.utils.configs import require
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.files import check_folder, check_writable, write_figure, writing
from mmseg_ctx.visualization.context import draw_context

TEST_PREFIX = 'test:'
DPI = 120
LOADS_IMAGE = ('LoadImageFromFile', 'RenderContextScene')


def read_items(config, images, labels=None):
    """Return functions that read images, each as a test data set gives it.

    Args:
        config (Config): With ``test_dataloader``, whose data set has a ``pipeline`` of its own.
        images (Sequence[str]): Image files, or ``'test:3'`` for the image 3, counted from 0, of the
            config's test data set, with its label.
        labels (Sequence[str] | None): For each image file that of its ground truth, in the format
            of the config's data set. Default: None.

    Returns:
        list[Callable[[], dict]]: Each returns ``inputs``, uint8 ``[3, H, W]``, and
        ``data_samples``, a ``SegDataSample``, or raises a ValueError where that fails.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The numbers of images and labels differ, there are labels for images of the
            data set, a file is no image, or the data set cannot be built or has no such image.
    """
    tests = [image for image in images if image.startswith(TEST_PREFIX)]
    if labels and tests:
        raise ValueError(f'labels are for image files; {tests[0]} has one of its own or none')
    labels = [None] * len(images) if labels is None else labels
    if len(images) != len(labels):
        raise ValueError(
            f'labels must be one file for each of the {len(images)} images, got {len(labels)}'
        )
    require(config, 'test_dataloader.dataset.pipeline')
    dataset_config = config.test_dataloader.dataset
    with value_errors('the test data set of the config cannot be read'):
        # Files of one's own do not need what lies on the disk.
        dataset = DATASETS.build({**dataset_config, 'lazy_init': not tests})
    return [
        _reader(dataset, dataset_config.pipeline, image, label)
        for image, label in zip(images, labels, strict=True)
    ]


def _reader(dataset, pipeline, image, label):
    if image.startswith(TEST_PREFIX):
        return _test_reader(dataset, image)
    for path in (image, label):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(
                f'{path} is neither a file nor {TEST_PREFIX}N, an image of the test data set'
            )
        if path is not None and not cv2.haveImageReader(str(path)):
            raise ValueError(f'{path} is not an image of a format that OpenCV reads')
    transform = build_transform(pipeline, 'LoadImageFromFile', label is not None)
    results = dict(
        img_path=image,
        seg_map_path=label,
        label_map=dataset.label_map,
        reduce_zero_label=dataset.reduce_zero_label,
    )
    name = ' or '.join(filter(None, (image, label)))
    return _guarded(name, lambda: transform(dict(results, seg_fields=[])))


def _test_reader(dataset, name):
    text = name.removeprefix(TEST_PREFIX)
    if not text.isdecimal() or int(text) >= len(dataset):
        raise ValueError(
            f'an image of the test data set must be {TEST_PREFIX}0 to '
            f'{TEST_PREFIX}{len(dataset) - 1}, got {name!r}'
        )
    return _guarded(name, lambda: dataset[int(text)])


def _guarded(name, read):
    def guarded():
        with value_errors(f'{name} cannot be read'):
            return read()

    return guarded


def build_transform(pipeline, load_image, with_label=False):
    """Build a config's test pipeline for images that the config's data set does not have.

    Args:
        pipeline (list[dict]): The test pipeline; where it renders its images, they are loaded.
        load_image (str): The transform that loads an image.
        with_label (bool): Whether it loads ``seg_map_path``, too. Default: False.

    Returns:
        Callable: From what a data set lists to what it gives.

    Raises:
        ValueError: The pipeline cannot be built.
    """
    transforms = [
        dict(type=load_image) if transform['type'] in LOADS_IMAGE else transform
        for transform in pipeline
        if transform['type'] != 'LoadAnnotations'
    ]
    if with_label:
        # As in MMSegmentation's test pipelines: behind what resizes, so the label keeps its size.
        transforms.insert(len(transforms) - 1, dict(type='LoadAnnotations'))
    with value_errors('the test pipeline of the config cannot be built'):
        return Compose(transforms)


def sheet_paths(images, folder, force=False):
    """Return the file of each image's sheet.

    Args:
        images (Sequence[str]): As of :func:`read_items`.
        folder (str | Path): Where the sheets are to be.
        force (bool): Whether existing files may be replaced. Default: False.

    Returns:
        list[Path]: Named after the images, with the suffix ``.png``.

    Raises:
        FileExistsError: A file exists, and ``force`` is False.
        OSError: ``folder`` takes no files, or cannot be made, or one of the files is a folder.
        ValueError: Two images have one name.
    """
    check_folder(folder)
    paths = [Path(folder) / f'{Path(image.replace(":", "-")).stem}.png' for image in images]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f'images must differ in their names, but {path} would be of several')
        if path.parent.is_dir():
            check_writable(path, force)
    return paths


def write_sheet(segmentor, item, path, force=False):
    """Draw an image's sheet into a file.

    Args:
        segmentor (BaseSegmentor): See :func:`mmseg_ctx.visualization.context.draw_context`; its
            ``dataset_meta`` has the classes.
        item (dict): Likewise.
        path (Path): The file; its folder is made if it is not there.
        force (bool): Whether an existing file may be replaced. Default: False.
    """
    figure = draw_context(segmentor, item, segmentor.dataset_meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, force) as temporary:
        write_figure(figure, temporary, DPI)
