"""Values and files that the measuring tools accept."""

import argparse

import pytest

from mmseg_ctx.commandline import ArgumentParser
from mmseg_ctx.measure.options import add_output_options, device, integer, output
from mmseg_ctx.measure.table import Column, Table, render

TABLE = Table('Costs', (Column('model', 'model'),), [dict(model='small')])


@pytest.mark.parametrize('text', ['0', '-1', '1.5', 'one', ''])
def test_an_integer_that_is_none_or_too_small(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"integer >= 1, got '{text}'"):
        integer(1)(text)


def test_an_integer():
    assert integer(1)('12') == 12
    assert integer(0)('0') == 0


def test_a_device_that_is_not_there(monkeypatch):
    assert device('cpu') == 'cpu'
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(argparse.ArgumentTypeError, match='no CUDA device'):
        device('cuda')
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    assert device('cuda') == 'cuda'
    with pytest.raises(argparse.ArgumentTypeError, match="'cpu' or 'cuda', got 'gpu'"):
        device('gpu')


def _output(*options):
    parser = ArgumentParser()
    add_output_options(parser)
    with output(parser.parse_args(options)) as write:
        write([TABLE])


def test_output_to_a_file_and_to_standard_output(tmp_path, capsys):
    _output()
    assert capsys.readouterr().out == render([TABLE], 'text')
    path = tmp_path / 'table.md'
    options = ['--format', 'markdown', '--out', str(path)]
    _output(*options)
    assert path.read_text() == render([TABLE], 'markdown')
    _output(*options, '--force')
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']


def test_output_is_refused_before_anything_is_measured(tmp_path):
    parser = ArgumentParser()
    add_output_options(parser)
    path = tmp_path / 'table.md'
    path.write_text('kept')
    with (
        pytest.raises(FileExistsError, match='--force'),
        output(parser.parse_args(['--out', str(path)])),
    ):
        pytest.fail('measured')
    assert path.read_text() == 'kept'
