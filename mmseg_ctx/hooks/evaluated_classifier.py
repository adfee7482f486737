"""Evaluating a context-aware classifier's prior or oracle in place of the refined one."""

from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.utils.arguments import check_choice


@HOOKS.register_module()
class EvaluatedClassifierHook(Hook):
    """Evaluate a ``ContextAwareClassifierHead`` with another of its classifiers.

    One entry of a config changes what validation and testing predict with, whatever the test loop,
    the pipeline and the metric: ``default_hooks = dict(classifier=dict(
    type='EvaluatedClassifierHook'))``, or ``--cfg-options
    default_hooks.classifier.type=EvaluatedClassifierHook`` on the command line.

    Args:
        classifier (str): ``'oracle'``, made from each image's ground truth, an upper bound
            (Figure 4), or ``'prior'``, the original one. Default: ``'oracle'``.

    Raises:
        ValueError: ``classifier`` is something else.
    """

    def __init__(self, classifier='oracle'):
        self.classifier = check_choice('classifier', classifier, ('oracle', 'prior'))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        """Tell the head through the data samples, which carry their labels to it."""
        if not any(isinstance(part, ContextAwareClassifierHead) for part in runner.model.modules()):
            raise TypeError(
                'EvaluatedClassifierHook needs a model with a ContextAwareClassifierHead, got '
                f'{type(runner.model).__name__}'
            )
        for sample in _flatten(data_batch['data_samples']):
            if self.classifier == 'oracle' and 'gt_sem_seg' not in sample:
                raise ValueError(
                    'the oracle classifier needs labels, got images without gt_sem_seg'
                )
            label = sample.gt_sem_seg.data if self.classifier == 'oracle' else None
            sample.set_metainfo(dict(evaluated_classifier=(self.classifier, label)))

    before_test_iter = before_val_iter


def _flatten(samples):
    """Return the data samples of a batch, which test-time augmentation nests."""
    if isinstance(samples, (list, tuple)):
        return [sample for part in samples for sample in _flatten(part)]
    return [samples]
