"""Where the configs lie that travel with the package, and the reading of any config."""

from difflib import SequenceMatcher
from os.path import commonprefix
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmseg_ctx.utils.errors import value_errors

CONFIG_ROOT = Path(__file__).parents[1] / '.mim' / 'configs'


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
    name = str(name)
    names = sorted(path.relative_to(CONFIG_ROOT).as_posix() for path in CONFIG_ROOT.rglob('*.py'))
    if name not in names:
        near = sorted(names, key=lambda other: _distance(name, other))[:5]
        raise FileNotFoundError(f'mmseg_ctx has no config {name!r}; near names: {", ".join(near)}')
    return str(CONFIG_ROOT / name)


def _distance(name, config):
    """Return what sorts configs by how far their names are from ``name``.

    Those that contain it, or that it ends in, come first, then those whose path, or file name,
    begins as it does.
    """
    name = name.lower().removeprefix('./').removeprefix('configs/')
    # Letters, not parts of a path.
    begins = [len(commonprefix((name, path))) for path in (config, Path(config).name)]  # noqa: RUF071
    alike = SequenceMatcher(None, name, config).ratio()
    return name not in config and not name.endswith(config), -begins[0], -begins[1], -alike


def read_config(path, *required, overrides=None):
    """Return the content of a config file.

    Args:
        path (str | Path): The file.
        *required (str): Settings that it must have, by dotted names.
        overrides (dict | None): Settings, by dotted names, in place of the file's. Default: None.

    Returns:
        Config: What the file says, with the overrides.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a config, does not take an override, or lacks a setting.

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
    """Raise a ValueError where a config lacks one of the settings with these dotted names."""
    for name in names:
        part = config
        for key in name.split('.'):
            part = part.get(key) if hasattr(part, 'get') else None
        if part is None:
            raise ValueError(f'{config.filename or "the config"} has no {name}')


def register_config_package():
    """Let MMEngine resolve ``_base_ = 'mmseg_ctx::…'``, which it does for the packages it knows."""
    # Upstream MMEngine takes a package that is installed in editable mode to lie in site-packages,
    # but finds the folder of a module. Any module at the top of the package will do.
    MODULE2PACKAGE['mmseg_ctx'] = 'mmseg_ctx.version'
