"""Test-time augmentation without full-size logits."""

from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS

from mmseg_ctx.ops import averaged_labels
from mmseg_ctx.segmentors.memory_efficient import MemoryEfficientSegmentor
from mmseg_ctx.segmentors.small_logits import FullSizeError, deferring_labels


@MODELS.register_module()
class MemoryEfficientSegTTAModel(SegTTAModel):
    """``SegTTAModel`` that averages the probabilities of scales and flips tile by tile.

    Of each pass it keeps only the small logits. If the segmentor has to make full-size logits, it
    does the same as ``SegTTAModel``.

    Args:
        module (dict | nn.Module): A memory-efficient segmentor.
        **kwargs: Arguments of ``SegTTAModel``.

    Raises:
        TypeError: ``module`` is another segmentor.
    """

    def __init__(self, module, **kwargs):
        super().__init__(module, **kwargs)
        if not isinstance(self.module, MemoryEfficientSegmentor):
            raise TypeError(
                'module must be a memory-efficient segmentor, such as '
                f'MemoryEfficientEncoderDecoder, got {type(self.module).__name__}'
            )

    def test_step(self, data):
        """Return the labels of a batch of images.

        Args:
            data (dict | tuple | list): Several passes of each image; see ``SegTTAModel``.

        Returns:
            list[SegDataSample]: A sample for each image, with ``pred_sem_seg`` ``[1, H, W]``.
        """
        try:
            with deferring_labels():
                return super().test_step(data)
        except FullSizeError:  # the module knows by now, and makes them in every pass
            return super().test_step(data)

    def merge_preds(self, data_samples_list):
        """Merge the passes of each image.

        Args:
            data_samples_list (list[list[SegDataSample]]): The passes of each image.

        Returns:
            list[SegDataSample]: A sample for each image, with ``pred_sem_seg`` ``[1, H, W]``.
        """
        passes = [each for samples in data_samples_list for each in samples]
        deferred = [each for each in passes if 'resized_logits' in each]
        if not deferred:
            return super().merge_preds(data_samples_list)
        if len(deferred) < len(passes):
            for each in deferred:
                each.pop('resized_logits')
            raise FullSizeError('only some passes could be computed without full-size logits')
        return [self._merged(samples) for samples in data_samples_list]

    def _merged(self, samples):
        label = averaged_labels(
            [sample.pop('resized_logits') for sample in samples], self.module.threshold
        )
        merged = samples[-1]  # as in MMSegmentation
        merged.set_data(dict(pred_sem_seg=PixelData(data=label)))
        if 'gt_sem_seg' in samples[0]:
            merged.set_data(dict(gt_sem_seg=samples[0].gt_sem_seg))
        merged.set_metainfo(dict(img_path=samples[0].img_path))
        return merged
