"""Where the configs lie that travel with the package."""

import difflib
from pathlib import Path

from mmengine.config.utils import MODULE2PACKAGE

CONFIG_ROOT = Path(__file__).parent / '.mim' / 'configs'


def config_path(name):
    """Return the place of a config of ours.

    Args:
        name (str): Its path below ``configs/``, such as
            ``'dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'``.

    Returns:
        str: The file's path, for ``Config.fromfile`` or a config's ``_base_``.

    Raises:
        FileNotFoundError: There is no such config; the message lists near names.
    """
    names = sorted(path.relative_to(CONFIG_ROOT).as_posix() for path in CONFIG_ROOT.rglob('*.py'))
    if str(name) not in names:
        near = difflib.get_close_matches(str(name), names, n=5, cutoff=0.4) or names[:5]
        raise FileNotFoundError(
            f'mmseg_ctx has no config {str(name)!r}; near names: {", ".join(near)}'
        )
    return str(CONFIG_ROOT / name)


def register_config_package():
    """Let MMEngine resolve ``_base_ = 'mmseg_ctx::…'``, which it does for the packages it knows."""
    # A module's folder is found where the package's own is not: upstream MMEngine takes a package
    # that is installed in editable mode to lie in site-packages.
    MODULE2PACKAGE['mmseg_ctx'] = __name__
