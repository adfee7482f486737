"""Keep a trained model as a folder that predicts anywhere, without data and without a pickle."""

import json
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmseg_ctx.checkpoints.loading import DATASET_META
from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.errors import needs_extra
from mmseg_ctx.utils.files import writing

CONFIG, WEIGHTS = 'config.py', 'model.safetensors'
SCOPES = 'mmcv', 'mmengine', 'mmseg', 'mmseg_ctx'


def save_model(model, folder, config=None, dataset_meta=None, force=False):
    """Write the weights and the config of a trained segmentor into a folder.

    ``model.safetensors`` has the weights and, as JSON in its metadata, ``classes`` and ``palette``.
    ``config.py`` has what a prediction needs of the config: the model, the test pipeline and the
    visualizer, but no training set and no schedule.

    Args:
        model (BaseSegmentor): The segmentor.
        folder (str | Path): The folder, which is made if it does not exist.
        config (Config | str | Path | None): The config that the model was built from; None for
            ``model.cfg``, which MMSegmentation's ``init_model`` and :func:`load_segmentor` set.
            Default: None.
        dataset_meta (dict | None): ``classes``, the names of the classes, and ``palette``, their
            colours; None for ``model.dataset_meta``. Default: None.
        force (bool): Whether to replace the files of an earlier model. Default: False.

    Raises:
        ImportError: The package safetensors is not installed.
        OSError: The files exist, or cannot be written.
        ValueError: There is no config, no name of the classes, or no test pipeline.

    Example:
        >>> model = load_segmentor('my_cac.py', 'work_dirs/my_cac/iter_160000.pth')
        >>> save_model(model, 'my_cac')
    """
    with needs_extra('export'):
        from safetensors.torch import save
    config = Config.fromfile(config) if isinstance(config, (str, Path)) else config
    config = getattr(model, 'cfg', None) if config is None else config
    if config is None:
        raise ValueError('the model has no config (model.cfg); pass it as `config`')
    meta = getattr(model, 'dataset_meta', None) if dataset_meta is None else dataset_meta
    meta = {key: np.asarray(meta[key]).tolist() for key in DATASET_META if key in (meta or {})}
    if 'classes' not in meta:
        raise ValueError('the model has no names of classes; pass dataset_meta=dict(classes=…)')
    # Copies, since a file of safetensors holds no tensor that shares its memory with another.
    weights = {name: each.detach().cpu().clone() for name, each in model.state_dict().items()}
    content = save(weights, {key: json.dumps(value) for key, value in meta.items()})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / CONFIG, force) as text, writing(folder / WEIGHTS, force) as binary:
        _prediction_config(config, meta).dump(text)
        binary.write_bytes(content)


def load_model(folder, device='cpu'):
    """Load a segmentor from a folder that :func:`save_model` wrote.

    The config is a Python program, like any config of MMEngine: read it before loading a folder
    that someone sent you. The weights cannot run anything.

    Args:
        folder (str | Path): The folder.
        device (str): Device of the model. Default: ``'cpu'``.

    Returns:
        BaseSegmentor: The model in evaluation mode, with ``cfg`` and ``dataset_meta``.

    Raises:
        ImportError: The package safetensors is not installed.
        OSError: A file cannot be read.
        ValueError: A file is damaged, or the two do not match.

    Example:
        >>> from mmseg.apis import inference_model
        >>> inference_model(load_model('my_cac'), 'photo.jpg').pred_sem_seg.data.shape
        torch.Size([1, 512, 683])
    """
    return load_segmentor(Path(folder) / CONFIG, Path(folder) / WEIGHTS, device=device)


def _prediction_config(config, dataset_meta):
    """Return what a prediction needs of a config, for MMSegmentation's functions, too."""
    imports = config.get('custom_imports', {}).get('imports', [])
    pipeline = _by_name(_test_pipeline(config))
    dataset = dict(type='BaseSegDataset', metainfo=dataset_meta, pipeline=pipeline)
    visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    return Config(
        dict(
            default_scope='mmseg',
            custom_imports=dict(imports=[*imports, 'mmseg_ctx']),
            model=dict(_by_name(config.model), pretrained=None),
            test_pipeline=pipeline,
            test_dataloader=dict(dataset=dataset),
            visualizer=dict(visualizer, name='visualizer'),
        )
    )


def _test_pipeline(config):
    dataset = inner_datasets(config.get('test_dataloader', {}).get('dataset', {}))[0]
    pipeline = dataset.get('pipeline', config.get('test_pipeline'))
    if pipeline is None:
        raise ValueError('the config has no pipeline of test data (test_pipeline)')
    return pipeline


def _by_name(value, key=None):
    """Replace classes, as pure Python configs have them, and names with a scope by plain names.

    MMSegInferencer compares types with names, and a config with classes cannot be written.
    """
    if isinstance(value, dict):
        return {name: _by_name(each, name) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_by_name(each) for each in value)
    if isinstance(value, type):
        value = f'{value.__module__}.{value.__qualname__}'
    if key == 'type' and isinstance(value, str) and value.partition('.')[0] in SCOPES:
        return value.rpartition('.')[2]
    return value
