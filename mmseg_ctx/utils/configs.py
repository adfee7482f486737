"""Find the configs that are part of the package, and read any config."""

from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmseg_ctx.utils.errors import value_errors

CONFIG_ROOT = Path(__file__).parents[1] / '.mim' / 'configs'


def config_path(name):
    """Return the path of a config of this package.

    Args:
        name (str): Path of the config below ``configs/``, such as
            ``'dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'``.

    Returns:
        str: Path of the file, for ``Config.fromfile`` or a config's ``_base_``.

    Raises:
        FileNotFoundError: There is no such config; the message lists similar names.
    """
    name = str(name)
    names = sorted(path.relative_to(CONFIG_ROOT).as_posix() for path in CONFIG_ROOT.rglob('*.py'))
    if name not in names:
        near = ', '.join(get_close_matches(name.lower(), names, n=5, cutoff=0))
        raise FileNotFoundError(f'mmseg_ctx has no config {name!r}; similar names: {near}')
    return str(CONFIG_ROOT / name)


def read_config(path, *required, overrides=None):
    """Return the content of a config file.

    Args:
        path (str | Path): The file.
        *required (str): Dotted names of settings that the file must have.
        overrides (dict | None): Settings by dotted name, which replace the file's.
            Default: None.

    Returns:
        Config: The settings of the file, with the overrides.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no config, cannot take an override, or lacks a required setting.

    Example:
        >>> read_config('model.py', 'model', 'test_dataloader.dataset').model.type
        'EncoderDecoder'
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} is not a file')
    with value_errors(f'{path} cannot be read as a config'):
        config = Config.fromfile(path)
    with value_errors(f'{path} does not take the settings {overrides}'):
        config.merge_from_dict(overrides or {})
    require(config, *required)
    return config


def require(config, *names):
    """Raise a ValueError if a config lacks one of the settings with these dotted names."""
    for name in names:
        part = config
        for key in name.split('.'):
            part = part.get(key) if hasattr(part, 'get') else None
        if part is None:
            raise ValueError(f'{config.filename or "the config"} has no {name}')


def register_config_package():
    """Add this package to MMEngine's table, so that ``_base_ = 'mmseg_ctx::…'`` works."""
    # For a package in editable mode, upstream MMEngine looks in site-packages. For a module, it
    # looks in the module's folder, so the table gets a module at the top of the package.
    MODULE2PACKAGE['mmseg_ctx'] = 'mmseg_ctx.version'
