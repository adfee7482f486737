"""Predictions in the form that the test server of PASCAL VOC takes."""

from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from PIL import Image


def voc_palette():
    """Return the colours of PASCAL VOC's label PNGs, uint8 ``[256, 3]``.

    The bits of a label go to the three channels in turn, lowest first, into each channel's highest
    bit first; this is how the development kit makes its colour map.
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((labels >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


@METRICS.register_module()
class VOCResultsMetric(BaseMetric):
    """Writes each prediction as a palette PNG and measures nothing: the test labels are secret.

    The files are named as the images. Packed as ``results/VOC2012/Segmentation/comp6_test_cls/``
    they are what the server takes. MMSegmentation's ``IoUMetric`` can write PNGs too, but without
    the palette.

    Args:
        output_dir (str | Path): Folder of the PNGs; made if it does not exist. ``--out`` of
            ``mim test`` sets it.
        keep_results (bool): Must be True, which ``--out`` sets along: results that are not kept
            would be of no use. Default: True.
        collect_device (str): As ``BaseMetric`` has it. Default: 'cpu'.
        prefix (str | None): As ``BaseMetric`` has it. Default: None.

    Raises:
        ValueError: ``keep_results`` is not True.
    """

    def __init__(self, output_dir, keep_results=True, collect_device='cpu', prefix=None):
        if keep_results is not True:
            raise ValueError(f'keep_results must be True, got {keep_results!r}')
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.output_dir = Path(output_dir)
        self.palette = voc_palette().tobytes()

    def process(self, data_batch, data_samples):
        """Write the predictions of one batch."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for sample in data_samples:
            label = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.uint8)
            picture = Image.fromarray(label)
            picture.putpalette(self.palette)
            path = self.output_dir / f'{Path(sample["img_path"]).stem}.png'
            picture.save(path)
            self.results.append(str(path))

    def compute_metrics(self, results):
        """Say where the results are; there is nothing to measure."""
        MMLogger.get_current_instance().info(f'{len(results)} results are in {self.output_dir}')
        return {}
