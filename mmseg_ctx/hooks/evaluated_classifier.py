"""Evaluate the prior or the oracle of a context-aware classifier instead of the refined one."""

from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.utils.arguments import check_choice


@HOOKS.register_module()
class EvaluatedClassifierHook(Hook):
    """Makes validation and testing predict with another classifier of the head.

    A config adds it with ``default_hooks = dict(classifier=dict(type='EvaluatedClassifierHook'))``,
    a command line with ``--cfg-options default_hooks.classifier.type=EvaluatedClassifierHook``.
    Test loop, pipeline and metric stay as they are.

    Args:
        classifier (str): ``'oracle'``, which is made from each image's ground truth and is an upper
            bound (Figure 4), or ``'prior'``, the original classifier. Default: ``'oracle'``.
    """

    def __init__(self, classifier='oracle'):
        self.classifier = check_choice('classifier', classifier, ('oracle', 'prior'))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        """Put the classifier, and for the oracle the label, into the data samples for the head.

        Raises:
            TypeError: The model has no ``ContextAwareClassifierHead``.
            ValueError: The classifier is the oracle, and an image has no label.
        """
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
    """Return the data samples of a batch as a flat list; test-time augmentation nests them."""
    if isinstance(samples, (list, tuple)):
        return [sample for part in samples for sample in _flatten(part)]
    return [samples]
