"""Import MMSegmentation, and raise a clear error if none can be used."""

import io
import warnings
from contextlib import redirect_stdout

# The extras of setup.py as commands. They do not name this package, since no index has it.
# Neither stack asks for PyTorch.
ONEDL = (
    "pip install torch 'onedl-mmcv>=2.3.6' 'onedl-mmengine>=0.10.12' "
    "'onedl-mmsegmentation>=1.4.2' 'onedl-mim>=0.5.1'"
)
OPENMMLAB = (
    "pip install 'torch<2.14' 'setuptools<81' ninja numpy && MMCV_WITH_OPS=1 pip install "
    "--no-build-isolation 'torch<2.14' 'mmcv>=2.0.0,<2.2.0' 'mmengine>=0.10.7' "
    "'mmsegmentation>=1.2.2' 'openmim>=0.3.9' 'openxlab<=0.0.11' ftfy regex"
)
INSTALL = (
    f'Install the maintained stack: `{ONEDL}` — or upstream OpenMMLab, which compiles mmcv: '
    f'`{OPENMMLAB}`'
)


def require_mmseg():
    """Import MMSegmentation 1.0 or newer, or raise an ImportError with commands to install it."""
    try:
        import mmseg

        if int(mmseg.__version__.split('.')[0]) < 1:
            raise ImportError(f'found {mmseg.__version__}')
        # The maintained fork prints that an optional package is missing, and warns of operations
        # that this package does not use. Both would be part of a tool's output.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            import mmseg.datasets
            import mmseg.models
    except (ImportError, AssertionError) as error:  # An assertion is about MMCV's version.
        raise ImportError(
            f'mmseg_ctx needs MMSegmentation >= 1.0, which cannot be imported: {error}. {INSTALL}'
        ) from error
