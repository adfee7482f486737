"""Read checkpoints safely, keep models in folders, and convert what papers' authors released."""

from mmseg_ctx.checkpoints.folder import load_model, save_model
from mmseg_ctx.checkpoints.segmentor import load_segmentor

__all__ = ['load_model', 'load_segmentor', 'save_model']
