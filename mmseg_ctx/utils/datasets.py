"""Read the configs of data sets, whose types may be names, names with a scope, or classes."""


def type_name(config):
    """Return the name of a config's type, without its scope.

    Args:
        config (dict): A config whose ``type`` is a registered name, such as ``'mmseg.Resize'``, or
            a class, as in a pure Python config.

    Returns:
        str: ``'Resize'`` for instance.
    """
    kind = config['type']
    return getattr(kind, '__name__', None) or str(kind).rpartition('.')[2]


def inner_datasets(config):
    """Return the configs of the data sets inside ``ConcatDataset`` and other wrappers.

    Args:
        config (dict): Config of a data set, or of a wrapper, which has ``dataset`` or ``datasets``.

    Returns:
        list[dict]: The config of each data set that reads files itself, at least one.
    """
    inner = config.get('datasets') or [config.get('dataset')]
    if inner == [None]:
        return [config]
    return [part for each in inner for part in inner_datasets(each)]
