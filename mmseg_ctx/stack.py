"""Which MMSegmentation is installed, and a clear error where none can be used."""

ONEDL = "pip install 'mmseg-ctx[onedl]'"
OPENMMLAB = "pip install 'mmseg-ctx[openmmlab]'"


def require_mmseg():
    """Make sure that MMSegmentation 1.0 or newer can be imported.

    Raises:
        ImportError: No MMSegmentation is installed, one of its own dependencies is missing, or
            it is older than 1.0. The message names the commands that mend it.
    """
    install = f'Install the maintained stack, `{ONEDL}`, or upstream OpenMMLab, `{OPENMMLAB}`.'
    try:
        import mmseg
    except ImportError as error:
        raise ImportError(
            f'mmseg_ctx plugs into MMSegmentation, which cannot be imported ({error}). {install}'
        ) from error
    if int(mmseg.__version__.split('.')[0]) < 1:
        raise ImportError(
            f'mmseg_ctx needs MMSegmentation >= 1.0, found {mmseg.__version__}. {install}'
        )
