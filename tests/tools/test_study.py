"""The study's command line, with its smallest run."""

import json

import pytest

from tests.helpers import exit_status
from tools.study import main

FCN = 'fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'


@pytest.mark.slow
def test_study(tmp_path, capsys):
    fine, broken, out = tmp_path / 'fine.py', tmp_path / 'broken.py', tmp_path / 'study'
    base = f"_base_ = __import__('mmseg_ctx').config_path({FCN!r})\n"
    loader = 'dict(batch_size=2, num_workers=0, persistent_workers=False, dataset={})'
    train, test = loader.format('dict(image_size=32)'), 'dict(image_size=32, num_images=2)'
    settings = f'train_dataloader = {train}\ntest_dataloader = {loader.format(test)}\n'
    fine.write_text(base + settings)
    broken.write_text(base + settings + "model = dict(decode_head=dict(type='NoSuchHead'))\n")
    options = ('--iterations', 1, '--seeds', 0, '--out', out)
    assert exit_status(main, '--configs', fine, broken, *options) == 1
    printed = capsys.readouterr()
    assert 'broken, seed 0: exit status 1' in printed.err
    assert 'NoSuchHead' in printed.err.replace('\n', '')
    assert 'fine' in printed.out
    assert {path.name for path in out.iterdir()} == {'runs', 'study.json', 'study.md'}
    result = out / 'runs/fine/seed0/result.json'
    written = result.stat().st_mtime_ns
    assert exit_status(main, '--configs', fine, *options) == 0
    assert result.stat().st_mtime_ns == written
    assert exit_status(main, '--configs', fine, '--iterations', 2, *options[2:]) == 2
    assert '--force' in capsys.readouterr().err


def test_the_report_is_written_from_results_and_over_no_other_file(tmp_path, capsys):
    run = dict(row='fcn', seed=3, parameters=10, metrics=dict(model=dict(mIoU=50.0)))
    path, out = tmp_path / 'results.json', tmp_path / 'deep' / 'report'
    path.write_text(json.dumps([dict(runs=[run])]))
    assert exit_status(main, '--from', path, '--out', out) == 0
    assert 'the baseline of all' in capsys.readouterr().out
    assert {'study.md', 'study.json'} == {each.name for each in out.iterdir()}
    (out / 'runs').mkdir()  # a study, whose report stays
    assert exit_status(main, '--from', path, '--out', out) == 2
    assert '--force' in capsys.readouterr().err
    (tmp_path / 'study.json').write_text('mine')
    assert exit_status(main, '--configs', 'missing.py', '--out', tmp_path) == 2
    assert f'{tmp_path}/study.json exists' in capsys.readouterr().err
    assert (tmp_path / 'study.json').read_text() == 'mine'
