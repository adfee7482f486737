"""Load a trained model from a config and its checkpoint."""

from contextlib import suppress

from mmseg.apis import init_model
from mmseg.registry import DATASETS

from mmseg_ctx.checkpoints.loading import known_classes, load_checkpoint
from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.errors import first_names, value_errors


def load_segmentor(config, checkpoint, cfg_options=None, device='cpu'):
    """Build the model of a config, and load all of its weights from a checkpoint.

    Unlike MMSegmentation's ``init_model``, it refuses a checkpoint that lacks weights.

    Args:
        config (str | Path): Config file.
        checkpoint (str | Path): A file that MMEngine or a converter of this package wrote.
        cfg_options (dict | None): Settings that replace the config's. Default: None.
        device (str): Device of the model. Default: ``'cpu'``.

    Returns:
        BaseSegmentor: The model in evaluation mode. ``cfg`` is its config. ``dataset_meta`` has
        ``classes`` and ``palette``, from the checkpoint or, if it does not have both, from the
        config's test data.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is no config or no checkpoint, or they do not match.
    """
    content = read_config(config, 'model')
    with value_errors(f'the model of {config} cannot be built'):
        segmentor = init_model(content, device=device, cfg_options=cfg_options)
    state_dict, meta = load_checkpoint(checkpoint)
    _load(segmentor, state_dict, f'{checkpoint} does not fit {config}')
    saved = meta.get('dataset_meta')
    saved = saved if type(saved) is dict else {}
    known = known_classes(saved.get('classes'), saved.get('palette'))
    agree = len(known) == 2 and len(known['classes']) == len(known['palette'])
    segmentor.dataset_meta = saved if agree else _dataset_meta(segmentor.cfg)
    return segmentor


def _load(segmentor, state_dict, complaint):
    own = segmentor.state_dict()
    common = own.keys() & state_dict.keys()
    faults = {
        'it lacks': own.keys() - common,
        'it has no place for': state_dict.keys() - common,
        'of another shape': {name for name in common if own[name].shape != state_dict[name].shape},
    }
    parts = [f'{fault} {first_names(sorted(names))}' for fault, names in faults.items() if names]
    if parts:
        raise ValueError(f'{complaint}: {"; ".join(parts)}')
    segmentor.load_state_dict(state_dict)


def _dataset_meta(config):
    """Return the classes and colours of the config's test data, whose files need not be there."""
    with suppress(Exception):  # For some uses of the model nobody needs to know its classes.
        (dataset, *_) = inner_datasets(config.test_dataloader.dataset)
        return DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}).metainfo
    return {}
