"""Planning, running and reporting of a study, with runs of a few iterations at most."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmseg_ctx.analysis import study, study_report
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.checkpoints.loading import load_checkpoint
from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import render
from tests.configs.training import load_lightly

FCN = 'fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
CAC_FCN = METHODS['cac'].suites['context-scenes']
TINY = load_lightly() | {
    'train_dataloader.dataset.image_size': 32,
    'test_dataloader.batch_size': 2,
    'test_dataloader.dataset.image_size': 32,
    'test_dataloader.dataset.num_images': 2,
    'log_level': 'ERROR',
}
SUITES = {name: study.read_suite(name) for name in study.suite_names()}
SCENES = SUITES['context-scenes']


@pytest.mark.parametrize('name', SUITES)
def test_every_row_of_a_suite_is_a_model_of_its_own(name):
    suite, trained = SUITES[name], []
    for row in suite.rows:
        config = study.run_config(row, seed=0)
        settings = (config.train_dataloader.dataset, config.train_cfg.max_iters)
        settings += (config.load_from,)
        trained.append(f'{config.model} {settings}')
        build(config.model.decode_head)
        if name != 'dmnet-voc12':
            model = config.model.to_dict() | dict(data_preprocessor=None)
            assert count(build(model), torch.empty(2, 3, 64, 64, device='meta')).parameters > 0
        if name == 'camvid':  # whose test images are left alone
            assert config.train_dataloader.dataset.data_prefix.img_path == 'train'
            assert config.test_dataloader.dataset.data_prefix.img_path == 'val'
    assert len(set(trained)) == len(trained)
    if name != 'dmnet-voc12':
        quick = [row.config for row in suite.quick[1:]]
        assert quick == [each.suites[name] for each in METHODS.values()]
    # ``--rows`` takes both.
    assert not {row.name for row in suite.rows} & set(study.groups(suite.rows))


def test_the_schedule_is_stretched():
    row = study.Row('fcn', FCN, {'model.decode_head.channels': 8})
    config = study.run_config(row, seed=3, iterations=1200)
    assert config.train_cfg.max_iters == 1200
    assert [(each.begin, each.end) for each in config.param_scheduler] == [(0, 100), (100, 1200)]
    assert (config.model.decode_head.channels, config.randomness.seed) == (8, 3)
    assert config.val_cfg is None
    short = study.run_config(row, seed=3, iterations=1)
    assert all(each.begin < each.end for each in short.param_scheduler)


def test_a_plan_goes_seed_by_seed_and_writes_the_config(tmp_path):
    rows = [study.Row('b', FCN, seeds=(0, 1)), study.Row('a', FCN, seeds=(0,))]
    runs = study.plan(rows, tmp_path)
    folder = tmp_path / 'runs'
    assert runs == [folder / 'b/seed0', folder / 'a/seed0', folder / 'b/seed1']
    assert study.plan(rows, tmp_path, seeds=[1]) == [folder / 'b/seed1', folder / 'a/seed1']
    written = Config.fromfile(runs[0] / 'settings.py')
    assert written.to_dict() == study.run_config(rows[0], 0).to_dict()


def test_runs_of_other_settings_are_refused_and_forced(tmp_path):
    (run,) = study.plan([study.Row('fcn', FCN)], tmp_path, seeds=[0])
    result = run / 'result.json'
    result.write_text('{}')
    assert study.plan([study.Row('fcn', FCN)], tmp_path, seeds=[0]) == [run]
    other = [study.Row('fcn', FCN, {'model.decode_head.channels': 8})]
    with pytest.raises(ValueError, match=r'other settings.*--force'):
        study.plan(other, tmp_path, seeds=[0])
    assert result.exists()
    study.plan(other, tmp_path, seeds=[0], force=True)
    assert not result.exists()


@HOOKS.register_module(force=True)
class _StopAfter(Hook):
    """Counts iterations, and ends the run like Ctrl-C after some."""

    done = 0

    def __init__(self, iterations=None):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        type(self).done += 1
        if runner.iter + 1 == self.iterations:
            raise KeyboardInterrupt


def test_a_run_that_was_cut_short_goes_on(tmp_path):
    config = study.run_config(study.Row('cac-fcn', CAC_FCN, TINY), seed=0, iterations=4)
    config.work_dir = str(tmp_path)
    _StopAfter.done = 0
    config.custom_hooks = [dict(type='_StopAfter', iterations=3, priority='VERY_LOW')]
    with pytest.raises(KeyboardInterrupt):
        study.train_and_test(config)
    config.custom_hooks = [dict(type='_StopAfter')]
    result = study.train_and_test(config)
    assert _StopAfter.done == 4
    assert list(result['metrics']) == ['prior', 'refined', 'oracle']
    assert {'mIoU', 'mIoU_context', 'mIoU_relative', 'mIoU_thin'} <= set(result['metrics']['prior'])
    assert result['metrics']['prior'] != result['metrics']['oracle']
    assert {'parameters', 'torch', 'seconds'} < set(result)


@pytest.mark.slow
def test_two_stages_with_curves(tmp_path):
    frozen = {**TINY, 'optim_wrapper.optimizer.lr': 0.0}
    (first,) = study.plan(
        [study.Row('fcn', FCN, TINY, iterations=3, validate_every=2)], tmp_path, seeds=[0]
    )
    study.do_run(first)
    frozen['load_from'] = str(first / 'work_dir/iter_3.pth')
    (second,) = study.plan([study.Row('later', FCN, frozen, iterations=1)], tmp_path, seeds=[0])
    study.do_run(second)
    before, after = (
        load_checkpoint(path)[0] for path in (frozen['load_from'], second / 'work_dir/iter_1.pth')
    )
    for name in ('decode_head.conv_seg.weight', 'backbone.conv1.weight'):
        assert torch.equal(before[name], after[name])
    result, _ = study.finished_results(tmp_path)
    assert [point['iteration'] for point in result['curve']] == [2, 3]
    assert result['curve'][-1]['mIoU'] == result['metrics']['model']['mIoU']


def test_runs_that_fail_do_not_lose_the_others(tmp_path, monkeypatch):
    runs = [tmp_path / name for name in ('head', 'broken', 'done')]
    for folder in runs:
        folder.mkdir()
    (tmp_path / 'done/result.json').write_text('{}')
    ended = []

    def call(command, stdout, stderr, env):
        assert env['CUDA_VISIBLE_DEVICES'] == ''
        ended.append(Path(command[-1]).name)
        if ended[-1] != 'broken':
            return 0
        stdout.write('Traceback\nValueError: no such head\n\n')
        return 1

    monkeypatch.setattr(study.subprocess, 'call', call)
    errors = {folder.name: error for folder, error in study.execute(runs, jobs=4)}
    assert sorted(ended) == ['broken', 'head']
    assert errors['head'] is errors['done'] is None
    assert errors['broken'].startswith('exit status 1')
    assert errors['broken'].endswith('log.txt: ValueError: no such head')


def test_the_table_has_mean_and_deviation():
    models = [dict(aAcc=90.0, mIoU=50.0, mIoU_far=20.0), dict(aAcc=92.0, mIoU=54.0, mIoU_far=24.0)]
    classifiers = {name: dict(mIoU=60.0) for name in ('prior', 'refined', 'oracle')}
    results = [
        dict(row='fcn', seed=0, parameters=1_000_000, metrics=dict(model=models[0])),
        dict(row='fcn', seed=1, parameters=1_000_000, metrics=dict(model=models[1])),
        dict(row='cac-fcn', seed=1, parameters=2_000_000, metrics=classifiers),
    ]
    summary = study_report.summarize(results, dict(fcn='baseline', later='nothing'))

    def lines(known):
        titles = study_report.metric_titles(summary, known)
        table = study_report.study_table('Streets', titles, summary)
        return render([table], 'markdown').splitlines()

    assert lines({})[2] == '| row | shows | mIoU | mIoU far | parameters [M] | seeds |'
    assert lines({})[4] == '| fcn | baseline | 52.0 ± 2.8 | 22.0 ± 2.8 | 1.00 | 2 |'
    assert lines({})[5] == '| cac-fcn, prior |  | 60.0 |  | 2.00 | 1 |'
    own = lines({'mIoU_far': 'far', 'aAcc': 'pixels'})
    assert own[4] == '| fcn | baseline | 22.0 ± 2.8 | 91.0 ± 1.4 | 1.00 | 2 |'


def test_the_report_has_every_finished_run_and_is_written_again(tmp_path):
    assert study_report.write_report(SCENES, [], [], tmp_path) is None
    for name, seed in (('mine', 0), ('dmnet', 1), ('dmnet', 0), ('fcn', 0), ('dmnet', 10)):
        curve = [dict(iteration=step, mIoU=40.0 + step) for step in (1, 2)]
        folder = tmp_path / f'runs/{name}/seed{seed}'
        folder.mkdir(parents=True)
        metrics = dict(model=dict(mIoU=50.0 + seed))
        result = dict(metrics=metrics, parameters=1_000_000, curve=curve)
        (folder / 'result.json').write_text(json.dumps(result))
    (tmp_path / 'runs/ctnet/seed0').mkdir(parents=True)
    results = study.finished_results(tmp_path)
    table = study_report.write_report(SCENES, [study.Row('planned', FCN)], results, tmp_path)
    assert [row['label'] for row in table.rows] == ['fcn', 'dmnet', 'mine']
    assert [row['seeds'] for row in table.rows] == [[0], [0, 1, 10], [0]]
    assert [row['shows'] for row in table.rows] == ['the baseline of all', 'DMNet', '']
    again = tmp_path / 'again'
    again.mkdir()
    study_report.write_report(SCENES, [], study_report.read_results(tmp_path / 'study.json'), again)
    assert len(list(again.iterdir())) == 3
    for path in again.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


SUITE = """\
title: Streets
defaults: {config: fcn.py, validate_every: 10, seeds: [4], overrides: {c: 2}}
quick: {rows: [head], iterations: 5}
rows:
- {name: head, group: base}
- {name: two, seeds: [5, 6], overrides: {a.b: 1}}
- {name: three, by_default: false}
"""


def test_a_suite_is_read_from_a_file(tmp_path):
    path = tmp_path / 'streets.yml'
    path.write_text(SUITE)
    suite = study.read_suite(str(path))
    common = dict(config='fcn.py', overrides=dict(c=2), validate_every=10, seeds=[4])
    head = study.Row('head', group='base', **common)
    two = study.Row('two', **common | dict(overrides={'c': 2, 'a.b': 1}, seeds=[5, 6]))
    three = study.Row('three', by_default=False, **common)
    quick = (head._replace(iterations=5, seeds=(0,)),)
    assert suite == study.Suite('Streets', (head, two, three), quick, 'work_dirs/study-streets')
    assert study.select(suite.rows, []) == [head, two]
    assert study.select(suite.rows, ['base']) == [head]
    assert study.select(suite.rows, ['three']) == [three]
    with pytest.raises(ValueError, match="rows must be among head, two, three, base, got 'fuor'"):
        study.select(suite.rows, ['base', 'fuor'])


def test_the_iou_of_each_class_is_a_table_of_its_own():
    entries = [dict(label='a', metrics=dict(mIoU=[1.0], IoU_sky=[90.0, 91.0]))]
    entries.append(dict(label='b', metrics=dict(mIoU=[1.0])))
    (table,) = study_report.class_tables(entries)
    assert '| row | sky |\n| --- | --- |\n| a | 90.5 |\n| b |  |\n' in render([table], 'markdown')
    assert study_report.class_tables(entries[1:]) == []
