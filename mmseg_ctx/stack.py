"""Which MMSegmentation is installed, and a clear error where none can be used."""

import io
import warnings
from contextlib import redirect_stdout

ONEDL = "pip install 'mmseg-ctx[onedl]'"
OPENMMLAB = "pip install 'mmseg-ctx[openmmlab]'"
INSTALL = f'Install the maintained stack, `{ONEDL}`, or upstream OpenMMLab, `{OPENMMLAB}`.'


def require_mmseg():
    """Import MMSegmentation 1.0 or newer.

    Raises:
        ImportError: No MMSegmentation is installed, one of its own dependencies is missing, or
            it is older than 1.0. The message names the commands that mend it.
    """
    try:
        import mmseg

        if int(mmseg.__version__.split('.')[0]) >= 1:
            _import_quietly()
    except ImportError as error:
        raise ImportError(
            f'mmseg_ctx plugs into MMSegmentation, which cannot be imported ({error}). {INSTALL}'
        ) from error
    if int(mmseg.__version__.split('.')[0]) < 1:
        raise ImportError(
            f'mmseg_ctx needs MMSegmentation >= 1.0, found {mmseg.__version__}. {INSTALL}'
        )


def _import_quietly():
    # The maintained fork prints that an optional package of its own is missing, and warns of
    # operations that nothing here uses; both would stand in what a tool prints.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import mmseg.datasets
        import mmseg.models  # noqa: F401
