"""Finding and reading configs, which are programs that may do anything."""

import re

import pytest
from mmengine.config import Config

from mmseg_ctx import config_path
from mmseg_ctx.utils.configs import read_config

CONFIG = 'dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py'


def test_a_config_of_the_package(tmp_path):
    assert Config.fromfile(config_path(CONFIG)).model.decode_head.type == 'DynamicMultiScaleHead'
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'mmseg_ctx::{CONFIG}'\nmodel = dict(decode_head=dict(channels=8))")
    assert Config.fromfile(mine).model.decode_head.channels == 8


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        (CONFIG.replace('small', 'smal'), CONFIG),
        (CONFIG.removeprefix('dmnet/').upper(), CONFIG),
        (f'/home/me/mmseg-ctx/configs/{CONFIG}', CONFIG),
        ('dmnet/dmnet_r50x', 'dmnet/'),
    ],
)
def test_an_unknown_config_lists_near_ones(name, near):
    with pytest.raises(FileNotFoundError, match=re.escape(f'no config {name!r}')) as error:
        config_path(name)
    names = str(error.value).split('similar names: ')[1].split(', ')
    assert names[0].startswith(near)
    assert len(names) <= 5
    assert all(each.endswith('.py') for each in names)


def test_a_config_and_what_it_has_to_have(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('model = dict(head=dict(channels=8), neck=None)\ndata = [1]\n')
    assert read_config(path, 'model.head', 'data').model.head.channels == 8
    for name in ('other', 'model.other', 'model.neck', 'model.head.channels.other', 'data.other'):
        with pytest.raises(ValueError, match=rf'config\.py has no {name}$'):
            read_config(path, 'model', name)


@pytest.mark.parametrize(
    ('content', 'message'),
    [('model = dict(', 'SyntaxError: '), ('raise SystemExit', 'SystemExit$')],
)
def test_a_config_that_cannot_be_read(content, message, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(content)
    with pytest.raises(ValueError, match=rf'config\.py cannot be read as a config: .*{message}'):
        read_config(path)
    path.write_text('raise KeyboardInterrupt')
    with pytest.raises(KeyboardInterrupt):
        read_config(path)


def test_a_file_that_is_not_there_or_no_config(tmp_path):
    for path in (tmp_path / 'absent.py', tmp_path):
        with pytest.raises(FileNotFoundError, match=f'{path} is not a file'):
            read_config(path)
    path = tmp_path / 'notes.txt'
    path.write_text('model = dict()')
    with pytest.raises(ValueError, match=r'notes\.txt cannot be read as a config'):
        read_config(path)


def test_overrides_that_a_config_does_not_take(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('steps = [dict(type="Load")]\nmodel = dict(head=1)\n')
    config = read_config(path, 'model', overrides={'steps.0.type': 'Read', 'model.neck': 2})
    assert (config.steps[0].type, config.model.neck) == ('Read', 2)
    for overrides, message in (
        ({'steps.5.type': 'Read'}, "does not take the settings {'steps.5.type': 'Read'}: KeyError"),
        ({'model': None}, 'has no model'),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            read_config(path, 'model', overrides=overrides)
