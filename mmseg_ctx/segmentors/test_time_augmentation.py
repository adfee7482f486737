"""Test-time augmentation without full-size logits."""

from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS

from mmseg_ctx.ops import averaged_labels
from mmseg_ctx.segmentors.memory_efficient import LogitsOnDemand


@MODELS.register_module()
class MemoryEfficientSegTTAModel(SegTTAModel):
    """``SegTTAModel`` that averages the probabilities of scales and flips tile by tile.

    Of each pass it keeps only the small logits. MMSegmentation's own ``SegTTAModel`` gives the same
    labels for the segmentors of this package, and makes the logits of each pass at full size, as
    this class does for other segmentors.

    Args:
        module (dict | nn.Module): A memory-efficient segmentor, or any other.
        **kwargs: Arguments of ``SegTTAModel``.
    """

    def test_step(self, data):
        """Return the labels of a batch of images.

        Args:
            data (dict): Several passes of each image; see ``SegTTAModel``.

        Returns:
            list[SegDataSample]: A sample for each image, with ``pred_sem_seg`` ``[1, H, W]``.
        """
        if getattr(self.module, 'keeps_full_size', True) or not isinstance(data, dict):
            return super().test_step(data)
        passes = []
        for index in range(len(data['inputs'])):
            batch = {key: value[index] for key, value in data.items()}
            batch = self.module.data_preprocessor(batch, False)
            passes.append(self.module.predict_logits(**batch))
        return self.merge_preds(list(zip(*passes, strict=True)))

    def merge_preds(self, data_samples_list):
        """Return the labels of images, each from the mean of the probabilities of its passes.

        Args:
            data_samples_list (list[list[SegDataSample]]): The samples of each image's passes.

        Returns:
            list[SegDataSample]: A sample for each image, with ``pred_sem_seg`` ``[1, H, W]``.
        """
        passes = [sample.seg_logits for samples in data_samples_list for sample in samples]
        if not all(isinstance(each, LogitsOnDemand) for each in passes):  # keep_logits
            return super().merge_preds(data_samples_list)
        return [self._merged(samples) for samples in data_samples_list]

    def _merged(self, samples):
        logits = [sample.seg_logits.logits for sample in samples]
        label = averaged_labels(logits, self.module.threshold)
        merged = samples[-1]  # as in MMSegmentation
        merged.set_data(dict(pred_sem_seg=PixelData(data=label)))
        if 'gt_sem_seg' in samples[0]:
            merged.set_data(dict(gt_sem_seg=samples[0].gt_sem_seg))
        merged.set_metainfo(dict(img_path=samples[0].img_path))
        return merged
