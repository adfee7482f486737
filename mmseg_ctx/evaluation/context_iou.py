"""Mean IoU over all classes and over the groups of classes that a data set names."""

from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ContextIoUMetric(IoUMetric):
    """MMSegmentation's ``IoUMetric`` that also reports a mean IoU for each group of classes.

    A group is an entry of the data set's ``metainfo`` whose key ends in ``_classes`` and whose
    value lists names of classes: ``context_classes=('water', 'sand')`` adds ``mIoU_context``. The
    metric ignores names that are no class of the data set, and groups without any class.

    Args:
        *args: Arguments of ``IoUMetric``.
        per_class (bool): Whether to report the IoU of each class, too. Default: False.
        **kwargs: Arguments of ``IoUMetric``. Groups and classes need ``'mIoU'`` among
            ``iou_metrics``.

    Example:
        >>> metric = ContextIoUMetric(iou_metrics=['mIoU'])
        >>> metric.dataset_meta = ContextScenesDataset.METAINFO
    """

    # No prefix before the metrics' names; with None, MMEngine warns that there is none.
    default_prefix = ''

    def __init__(self, *args, per_class=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.per_class = per_class

    def compute_metrics(self, results):
        """Return the means over all images, in percent.

        Args:
            results (list[tuple[Tensor]]): For each image the areas of intersection, union,
                prediction and label, each ``[N]``.

        Returns:
            dict[str, float]: The entries of ``IoUMetric``, ``mIoU_<group>`` of each group and, with
            ``per_class``, ``IoU_<class>`` of each class. A mean leaves out classes that occur
            neither in a label nor in a prediction.
        """
        metrics = super().compute_metrics(results)
        if 'mIoU' not in metrics:
            return metrics
        intersection, union, *_ = map(sum, zip(*results, strict=True))
        iou = intersection / union
        if self.nan_to_num is not None:
            iou = iou.nan_to_num(nan=self.nan_to_num)
        for key, names in self.dataset_meta.items():
            if not key.endswith('_classes') or not isinstance(names, (list, tuple)):
                continue
            indices = [i for i, name in enumerate(self.dataset_meta['classes']) if name in names]
            if indices:
                mean = iou[indices].nanmean().item()
                metrics[f'mIoU_{key.removesuffix("_classes")}'] = round(100 * mean, 2)
        if self.per_class:
            for name, value in zip(self.dataset_meta['classes'], iou.tolist(), strict=True):
                metrics[f'IoU_{name}'] = round(100 * value, 2)
        return metrics
