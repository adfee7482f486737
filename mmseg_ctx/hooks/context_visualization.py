"""Draw the context of a model while it trains."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from mmseg_ctx.utils.arguments import PositiveInt, validate_arguments
from mmseg_ctx.utils.models import unwrapped


@HOOKS.register_module()
class ContextVisualizationHook(Hook):
    """Draws a sheet of the context for some validation images while a model trains.

    A config adds it with ``default_hooks = dict(context=dict(type='ContextVisualizationHook'))``.
    This keeps the hooks of inherited configs, which a list ``custom_hooks`` would replace. The
    config's ``visualizer`` decides where the sheets go, for example to files or to TensorBoard.

    Args:
        interval (int): Shows every ``interval``-th validation image, beginning with the first.
            Default: 50.
    """

    @validate_arguments
    def __init__(self, interval: PositiveInt = 50):
        self.interval = interval
        self._seen = 0

    def before_val_epoch(self, runner):
        """Begin to count the images of this validation."""
        self._seen = 0

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Draw a sheet for every ``interval``-th image."""
        samples = data_batch['data_samples']
        for inputs, sample in zip(data_batch['inputs'], samples, strict=True):
            if self._seen % self.interval == 0 and is_main_process():
                self._show(runner, dict(inputs=inputs, data_samples=sample))
            self._seen += 1

    def _show(self, runner, item):
        # Imported here, since a run without this hook needs no Matplotlib.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from mmengine.visualization.utils import img_from_canvas

        from mmseg_ctx.visualization.context import draw_context

        model = unwrapped(runner.model)
        figure = draw_context(model, item, runner.val_dataloader.dataset.metainfo)
        name = f'context_{Path(item["data_samples"].img_path).stem}'
        picture = img_from_canvas(FigureCanvasAgg(figure))
        runner.visualizer.add_image(name, picture, step=runner.iter)
