"""Reading checkpoints: safe globals for MMEngine's own, converters for the authors' releases."""

from mmseg_ctx.checkpoints.resume import ExactResumeHook

__all__ = ['ExactResumeHook']
