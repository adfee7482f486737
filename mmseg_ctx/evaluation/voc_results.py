"""Predictions in the format of the PASCAL VOC test server."""

from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from PIL import Image


def voc_palette():
    """Return the colours of PASCAL VOC's label PNGs, uint8 ``[256, 3]``.

    The development kit distributes the bits of a label to red, green and blue in turn, beginning
    with the lowest. Each colour is filled from its highest bit downwards.
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((labels >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


@METRICS.register_module()
class VOCResultsMetric(BaseMetric):
    """Writes each prediction as a palette PNG, and computes no score, since test labels are secret.

    A file has the name of its image. The server accepts an archive with the files in the folder
    ``results/VOC2012/Segmentation/comp6_test_cls/``. MMSegmentation's ``IoUMetric`` also writes
    PNGs, but without the palette.

    Args:
        output_dir (str | Path): Folder of the PNGs, made if it does not exist. ``mim test --out``
            sets it.
        keep_results (bool): Has no effect; ``mim test --out`` sets it. Default: True.
        collect_device (str): Argument of ``BaseMetric``. Default: 'cpu'.
        prefix (str | None): Argument of ``BaseMetric``. Default: None.
    """

    # No prefix before the metrics' names; with None, MMEngine warns that there is none.
    default_prefix = ''

    def __init__(self, output_dir, keep_results=True, collect_device='cpu', prefix=None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.output_dir = Path(output_dir)

    def process(self, data_batch, data_samples):
        """Write the predictions of one batch."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for sample in data_samples:
            label = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.uint8)
            picture = Image.fromarray(label)
            picture.putpalette(voc_palette().tobytes())
            picture.save(self.output_dir / f'{Path(sample["img_path"]).stem}.png')
            self.results.append(None)

    def compute_metrics(self, results):
        """Log where the results are, and return no metric."""
        MMLogger.get_current_instance().info(f'{len(results)} results are in {self.output_dir}')
        return {}
