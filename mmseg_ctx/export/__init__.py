"""Export models for other runtimes."""

from mmseg_ctx.export.onnx import Agreement, export_onnx

__all__ = ['Agreement', 'export_onnx']
