"""Reading configs, which are programs that may do anything."""

import re

import pytest

from mmseg_ctx.utils.configs import read_config


def test_a_config_and_what_it_has_to_have(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('model = dict(head=dict(channels=8), neck=None)\ndata = [1]\n')
    assert read_config(path, 'model.head', 'data').model.head.channels == 8
    for name in ('other', 'model.other', 'model.neck', 'model.head.channels.other', 'data.other'):
        with pytest.raises(ValueError, match=rf'config\.py has no {name}$'):
            read_config(path, 'model', name)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('model = dict(', 'SyntaxError: '),
        ('model = 1 / 0', 'ZeroDivisionError: division by zero'),
        ("_base_ = './absent.py'", r'FileNotFoundError: .*absent\.py'),
        ("custom_imports = dict(imports=['no_such_module'])", 'no_such_module'),
        ('\0', 'Error: '),
        ('import sys\nsys.exit(0)', 'SystemExit: 0'),
        ('raise SystemExit', 'SystemExit$'),
        ('class Stop(BaseException):\n    pass\nraise Stop("here")', 'Stop: here'),
    ],
)
def test_a_config_that_cannot_be_read(content, message, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(content)
    with pytest.raises(ValueError, match=rf'config\.py cannot be read as a config: .*{message}'):
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


def test_a_config_that_is_interrupted(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('raise KeyboardInterrupt')
    with pytest.raises(KeyboardInterrupt):
        read_config(path)
