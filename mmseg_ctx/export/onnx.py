"""Exports a segmentor to an ONNX file that gives the same logits or labels in onnxruntime."""

import itertools
import json
import logging
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, NamedTuple

import torch
from mmseg.models.utils import resize
from torch import nn

from mmseg_ctx.export.exportable import exportable
from mmseg_ctx.utils.arguments import PositiveInt, at_least, validate_arguments
from mmseg_ctx.utils.errors import needs_extra, value_errors
from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.models import last_head, swaps_channels

LOGITS_TOLERANCE = 1e-3
LABELS_TOLERANCE = 0.999
OPSETS = '18 to 26'  # PyTorch writes none older, onnxruntime reads none newer
INPUT = 'image'


class Agreement(NamedTuple):
    """How well onnxruntime and PyTorch agree on random images of one shape.

    Attributes:
        shape (tuple[int]): B, C, H, W.
        difference (float | None): The largest absolute difference of two logits; None for labels.
        same_labels (float): Share of the pixels with the same predicted class, 0 to 1.
    """

    shape: tuple
    difference: float | None
    same_labels: float

    @property
    def holds(self):
        """bool: Whether no logit differs by more than 1e-3, and 99.9 % of the labels are equal."""
        logits = self.difference is None or self.difference <= LOGITS_TOLERANCE
        return logits and self.same_labels >= LABELS_TOLERANCE

    def __str__(self):
        shape, logits = 'x'.join(map(str, self.shape)), ''
        if self.difference is not None:
            logits = f'largest difference of logits {self.difference:.1e}, '
        return f'{shape}: {logits}same label on {self.same_labels:.3%} of the pixels'


class ImageToLogits(nn.Module):
    """A segmentor as a function from whole images to logits, or labels, of their size.

    Args:
        segmentor (BaseSegmentor): An ``EncoderDecoder``, or a subclass of it.
        normalize (bool): Whether to normalise images as the segmentor's data preprocessor does.
            Default: False.
        labels (bool): Whether to return labels. Default: False.
    """

    def __init__(self, segmentor, normalize=False, labels=False):
        super().__init__()
        self.segmentor = segmentor
        self.normalize = normalize
        self.labels = labels

    def forward(self, image):
        """Return logits ``[B, N, H, W]``, or labels ``[B, H, W]``, int64, of 0 to N - 1.

        Args:
            image (Tensor): ``[B, C, H, W]``: the backbone's input, or with ``normalize`` what the
                data pipeline loads, 0 to 255 and usually BGR.
        """
        if self.normalize:
            preprocessor = self.segmentor.data_preprocessor
            if swaps_channels(preprocessor) and image.size(1) == 3:  # as the preprocessor does
                image = image[:, [2, 1, 0]]
            # Without normalisation, it has neither.
            image = (image - getattr(preprocessor, 'mean', 0)) / getattr(preprocessor, 'std', 1)
        logits = self.segmentor.encode_decode(image, [dict(img_shape=image.shape[2:])])
        if not self.labels:
            return logits
        if logits.size(1) > 1:
            return logits.argmax(dim=1)
        return (logits[:, 0].sigmoid() > last_head(self.segmentor).threshold).long()

    def random_image(self, batch, height, width):
        """Return random images, the same ones for a shape, as the first convolution reads them."""
        layers = self.segmentor.backbone.modules()
        channels = next((each.in_channels for each in layers if isinstance(each, nn.Conv2d)), 3)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(batch, channels, height, width, generator=generator)
        return (127.5 + 60 * image).clamp(0, 255) if self.normalize else image


@validate_arguments
def export_onnx(
    segmentor,
    path,
    shape: tuple[PositiveInt, PositiveInt],
    dynamic=False,
    opset: Annotated[int, at_least(18)] | None = None,
    normalize=False,
    force=False,
    labels=False,
):
    """Write a segmentor as an ONNX file if onnxruntime and PyTorch agree on random images.

    The graph's input ``image`` is ``[B, C, H, W]``, float32. Its output is ``logits``,
    ``[B, N, H, W]``, float32, or ``labels``, ``[B, H, W]``, int64. The file's metadata ``classes``
    and ``palette`` are the names and the colours of the classes, as JSON. The segmentor itself does
    not change.

    Args:
        segmentor (BaseSegmentor): An ``EncoderDecoder`` on the CPU, with weights of float32. The
            graph predicts whole images, also of a model whose ``test_cfg`` has ``mode='slide'``.
        path (str | Path): The file to write.
        shape (Sequence[int]): Height and width of the images in pixels.
        dynamic (bool): Whether the graph accepts images of any size in batches of any size.
            Otherwise it accepts one image of that shape. Default: False.
        opset (int | None): Version of ONNX's operators, 18 to 26; None for PyTorch's choice.
            Default: None.
        normalize (bool): Whether the graph normalises images itself. Default: False.
        force (bool): Whether to replace an existing file. Default: False.
        labels (bool): Whether the graph ends in the label map, so that a server needs no code after
            it. Default: False.

    Returns:
        list[Agreement]: One for each shape that was compared; with ``dynamic``, three sizes in two
        batch sizes each.

    Raises:
        ImportError: A package of the extra ``export`` is not installed.
        OSError: The file cannot be written.
        ValueError: The model cannot be exported, or onnxruntime and PyTorch do not agree.

    Example:
        >>> from mmseg_ctx.checkpoints import load_segmentor
        >>> export_onnx(load_segmentor(config, checkpoint), 'model.onnx', (512, 512), labels=True)
    """
    with needs_extra('export'):
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            import_module(package)
    height, width = shape
    others = {str(weight.dtype) for weight in segmentor.parameters()} - {'torch.float32'}
    if others:
        raise ValueError(
            f'the weights must have the precision torch.float32, got {", ".join(sorted(others))}; '
            'model.float() converts them'
        )
    if segmentor.test_cfg.get('mode') == 'slide':
        warnings.warn(
            "the graph predicts whole images, although the model's test_cfg has mode='slide': a "
            'server that wants sliding windows has to cut them itself',
            stacklevel=3,  # who called export_onnx, around which is validate_arguments
        )
    model = ImageToLogits(exportable(segmentor), normalize, labels).eval()
    with writing(path, force) as temporary:
        _write(model, temporary, (height, width), dynamic, opset, segmentor)
        # Two further sizes, which no stride divides.
        sizes = [shape, (height * 3 // 4 + 1, width), (height // 2 + 3, width * 5 // 8 + 1)]
        sizes = itertools.product((1, 2), sizes) if dynamic else [(1, shape)]
        agreements = list(_compare(model, temporary, [(b, *size) for b, size in sizes]))
        for agreement in agreements:
            if not agreement.holds:
                raise ValueError(
                    f'onnxruntime and PyTorch do not agree, so {path} is not written: {agreement}; '
                    f'needed: at most {LOGITS_TOLERANCE}, at least {LABELS_TOLERANCE:.1%}'
                )
    return agreements


def _compare(model, path, shapes):
    """Run an ONNX file and its model on the same random images; yield an Agreement a shape."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with value_errors(f'onnxruntime reads opsets {OPSETS}, but not this file'):
        session = onnxruntime.InferenceSession(str(path), options, ['CPUExecutionProvider'])
    for shape in shapes:
        image = model.random_image(*shape)
        with torch.no_grad():
            expected = model(image)
        with value_errors(f'onnxruntime fails on {tuple(image.shape)}'):
            actual = torch.from_numpy(session.run(None, {INPUT: image.numpy()})[0])
            difference = None if model.labels else (actual - expected).abs().max().item()
            if not model.labels:
                actual, expected = actual.argmax(dim=1), expected.argmax(dim=1)
            same = (actual == expected).float().mean().item()
        yield Agreement(tuple(image.shape), difference, same)


def _write(model, path, size, dynamic, opset, segmentor):
    # The exporter would treat a batch of one as a constant.
    image = model.random_image(2 if dynamic else 1, *size)
    dimensions = {
        axis: torch.export.Dim(name) for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width'))
    }
    with value_errors(f'the model cannot read images of {size}'), torch.no_grad():
        model(image)
    try:
        with _without_messages():
            program = torch.onnx.export(
                model,
                (image,),
                input_names=[INPUT],
                output_names=['labels' if model.labels else 'logits'],
                dynamic_shapes=(dimensions,) if dynamic else None,
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f'the model cannot be exported: {error.__cause__ or error}') from error
    shape = program.model.graph.inputs[0].shape
    if dynamic and (fixed := [size for size in (shape[0], *shape[2:]) if isinstance(size, int)]):
        raise ValueError(
            'the model can only be exported without dynamic shapes: of batch, height and width, '
            f'PyTorch has silently fixed the size {", ".join(map(str, fixed))}'
        )
    written = program.model.opset_imports['']
    if opset not in (None, written):
        raise ValueError(f'opset must be one that PyTorch can write, {OPSETS}, got {opset}')
    for key in ('classes', 'palette'):
        if key in getattr(segmentor, 'dataset_meta', {}):
            program.model.metadata_props[key] = json.dumps(segmentor.dataset_meta[key])
    program.save(path, external_data=False)


@contextmanager
def _without_messages():
    """Silence the exporter's messages about its own internals, and a warning of ``resize``.

    For that warning, about ``align_corners``, MMSegmentation's ``resize`` converts sizes to
    integers, which fixes them in the graph. Heads and necks call it as a function, so replacing a
    module does not help.
    """
    level, defaults = logging.root.manager.disable, resize.__defaults__
    logging.disable(logging.ERROR)
    resize.__defaults__ = (*defaults[:-1], False)  # the default of its argument `warning`
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        resize.__defaults__ = defaults
        logging.disable(level)
