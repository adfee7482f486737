"""MMSegmentation's segmentors and ours with the same weights, and images for them."""

import copy

import matplotlib.cbook
import torch
import torch.nn.functional as F
from matplotlib import pyplot
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_ctx.utils.models import last_head
from tests.small_models import FCN, HEAD, HEADS, model_config, randomize

HEADS_AND_CASCADES = {
    'FCN': FCN,
    **HEADS,
    # Heads whose forward returns more than the logits.
    'EncHead': dict(
        type='EncHead', num_codes=4, **{**HEAD, 'in_channels': (8, 16), 'in_index': (1, 2)}
    ),
    'DAHead': dict(type='DAHead', pam_channels=4, **HEAD),
    'OCRNet': [FCN, dict(type='OCRHead', ocr_channels=8, **HEAD)],
    'binary': dict(FCN, num_classes=2, out_channels=1, threshold=0.4),
}
MODES = {
    'whole': dict(mode='whole'),
    'slide': dict(mode='slide', crop_size=(48, 64), stride=(31, 40)),
}


def pair(head=FCN, auxiliary=None, initial=False, **test_cfg):
    """Return MMSegmentation's segmentor and ours, with equal weights, random unless ``initial``.

    ``head`` is the config of a head, or those of a cascade, and so is ``auxiliary``.
    """
    config = model_config(head) | dict(test_cfg=ConfigDict(dict(mode='whole') | test_cfg))
    config['auxiliary_head'] = auxiliary
    stock = MODELS.build(copy.deepcopy(config)).eval()
    if not initial:
        balance(randomize(stock))
    ours = MODELS.build(config | dict(type='MemoryEfficient' + config['type'])).eval()
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def balance(segmentor):
    """Let no class be likelier than the others, on the whole."""
    inputs = segmentor.data_preprocessor(dict(inputs=[photograph(96, 128)]))['inputs']
    with torch.no_grad():
        logits = segmentor(inputs)
        logits = logits[0] if isinstance(logits, tuple) else logits
        last_head(segmentor).conv_seg.bias -= logits.mean(dim=(0, 2, 3))


def photograph(height, width):
    """Return a real image ``[3, height, width]``, which lies in every matplotlib."""
    with matplotlib.cbook.get_sample_data('grace_hopper.jpg') as file:
        image = torch.from_numpy(pyplot.imread(file, format='jpeg').copy())
    return F.interpolate(image.permute(2, 0, 1)[None].float(), (height, width), mode='area')[0]


def noise(height, width):
    """Return a random image ``[3, height, width]``."""
    return torch.randint(
        256, (3, height, width), generator=torch.Generator().manual_seed(0)
    ).float()


def data(images, original, **meta):
    """Return a batch as a data loader gives it, of images of other original sizes."""
    samples = []
    for image, size in zip(images, original, strict=True):
        shape = tuple(image.shape[1:])
        metainfo = dict(ori_shape=size, img_shape=shape, pad_shape=shape, img_path='image.png')
        samples.append(SegDataSample(metainfo=metainfo | meta))
    return dict(inputs=list(images), data_samples=samples)


def assert_same_labels(stock, ours, batch):
    """Assert that both predict the same, and ours without logits."""
    expected = stock.test_step(copy.deepcopy(batch))
    actual = ours.test_step(copy.deepcopy(batch))
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert 'seg_logits' not in mine
        assert mine.metainfo == theirs.metainfo
        mine, theirs = mine.pred_sem_seg.data, theirs.pred_sem_seg.data
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert len(theirs.unique()) > 1
        assert (mine == theirs).float().mean() >= 0.9999
