"""Evaluate the prior or the oracle of a context-aware classifier instead of the refined one."""

from typing import Literal

from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from mmseg_ctx.heads.cac import ContextAwareClassifier
from mmseg_ctx.utils.arguments import validate_arguments


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

    @validate_arguments
    def __init__(self, classifier: Literal['oracle', 'prior'] = 'oracle'):
        self.classifier = classifier

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        """Tell the context-aware classifiers of the model what to return for this batch.

        Raises:
            TypeError: The model has no context-aware classifier.
            ValueError: The classifier is the oracle, and an image has no label.
        """
        labels = self._labels(data_batch['data_samples']) if self.classifier == 'oracle' else None
        for layer in _classifiers(runner.model):
            layer.evaluate(self.classifier, labels)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Let the context-aware classifiers return the refined logits again."""
        for layer in _classifiers(runner.model):
            layer.evaluate('refined')

    before_test_iter = before_val_iter
    after_test_iter = after_val_iter

    def _labels(self, samples):
        if isinstance(samples[0], (list, tuple)):
            samples = samples[0]  # Passes of test-time augmentation have the labels in common.
        if not all('gt_sem_seg' in sample for sample in samples):
            raise ValueError('the oracle classifier needs labels, got images without gt_sem_seg')
        return [sample.gt_sem_seg.data for sample in samples]


def _classifiers(model):
    layers = [part for part in model.modules() if isinstance(part, ContextAwareClassifier)]
    if not layers:
        raise TypeError(
            'EvaluatedClassifierHook needs a model with a ContextAwareClassifierHead, got '
            f'{type(model).__name__}'
        )
    return layers
