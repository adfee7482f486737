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
        **kwargs: Arguments of ``IoUMetric``. The groups need ``'mIoU'`` among ``iou_metrics``.

    Example:
        >>> metric = ContextIoUMetric(iou_metrics=['mIoU'])
        >>> metric.dataset_meta = ContextScenesDataset.METAINFO
    """

    # No prefix before the metrics' names; with None, MMEngine warns that there is none.
    default_prefix = ''

    def compute_metrics(self, results):
        """Return the means over all images, in percent.

        Args:
            results (list[tuple[Tensor]]): For each image the areas of intersection, union,
                prediction and label, each ``[N]``.

        Returns:
            dict[str, float]: The entries of ``IoUMetric`` and ``mIoU_<group>`` of each group. A
            mean leaves out classes that occur neither in a label nor in a prediction.
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
        return metrics
