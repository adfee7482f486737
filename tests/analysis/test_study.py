"""Planning, running and reporting of a study, with runs of a few iterations at most."""

import json
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmseg_ctx.analysis import study, study_run
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.study import Run, execute, finished_results, plan, run_config
from mmseg_ctx.analysis.study_report import (
    curves_picture,
    mean_and_deviation,
    metric_titles,
    read_results,
    study_picture,
    study_table,
    summarize,
    write_report,
)
from mmseg_ctx.analysis.study_run import main, train_and_test
from mmseg_ctx.analysis.study_suite import Row, Suite, groups, read_suite, select, suite_names
from mmseg_ctx.checkpoints.loading import load_checkpoint
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import render

FCN = 'fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
CAC_FCN = 'cac/cac-fcn_r18-small_1xb16-600_context-scenes-128x128.py'
TINY = {
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.image_size': 32,
    'test_dataloader.batch_size': 2,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'test_dataloader.dataset.image_size': 32,
    'test_dataloader.dataset.num_images': 2,
    'log_level': 'ERROR',
}
SCENES = read_suite('context-scenes')
ROWS = SCENES.rows


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_every_row_is_a_model_for_the_scenes(row):
    model = run_config(row, seed=0).model.to_dict()
    del model['data_preprocessor']
    cost = count(build(model), torch.empty(2, 3, 64, 64, device='meta'))
    assert cost.parameters > 0


def test_the_default_study_has_a_baseline_the_methods_and_an_ablation_of_each():
    names = [row.name for row in ROWS if row.by_default]
    methods = ('fcn', 'cacnet', 'acnet', 'dmnet', 'ctnet', 'cac-fcn', 'cac-dmnet', 'cac-ctnet')
    assert set(methods) <= set(names)
    for method in ('cacnet', 'acnet', 'dmnet', 'ctnet', 'cac-dmnet'):
        assert any(name.startswith(f'{method}-') for name in names)
    # Two runs of 600 iterations at a time take 2.6 minutes on two cores: two hours in all.
    runs = sum(len(row.seeds) * (row.iterations or 600) for row in ROWS if row.by_default) / 600
    assert runs / 2 * 2.6 <= 120
    assert sum(len(row.seeds) for row in SCENES.quick) / 2 * 2.6 <= 20


def test_rows_differ_in_name_and_in_what_is_trained():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(groups(ROWS))  # ``--rows`` takes both
    trained = [
        (
            str(sorted(config.model.to_dict().items())),
            str(config.train_dataloader.dataset),
            config.train_cfg.max_iters,
            row.start_from,
        )
        for row, config in ((row, run_config(row, seed=0)) for row in ROWS)
    ]
    assert len(set(trained)) == len(trained)


def test_the_multi_label_rows_are_trained_and_tested_on_varied_objects():
    for row in ROWS:
        config = run_config(row, seed=0)
        varied = [
            config[f'{name}_dataloader'].dataset.get('varied_objects', False)
            for name in ('train', 'val', 'test')
            if config[f'{name}_dataloader']
        ]
        assert varied == [row.group == 'multi-label'] * len(varied)
        assert len(varied) >= 2


def test_the_schedule_is_stretched():
    row = Row('fcn', FCN, {'model.decode_head.channels': 8})
    config = run_config(row, seed=3, iterations=1200)
    assert config.train_cfg.max_iters == 1200
    assert [(each.begin, each.end) for each in config.param_scheduler] == [(0, 100), (100, 1200)]
    assert config.model.decode_head.channels == 8
    assert config.randomness.seed == 3
    assert config.val_cfg is None
    short = run_config(row, seed=3, iterations=1)
    assert all(each.begin < each.end for each in short.param_scheduler)


def test_a_config_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match='similar names'):
        run_config(Row('fcn', 'fcn/fcn_r18.py'), seed=0)


@pytest.mark.parametrize('name', ['train_cfg', 'test_evaluator', 'param_scheduler'])
def test_a_config_without_what_a_run_needs(name, tmp_path):
    path = tmp_path / 'mine.py'
    base = f"_base_ = __import__('mmseg_ctx').config_path({FCN!r})\n"
    path.write_text(f'{base}{name} = None\n')
    with pytest.raises(ValueError, match=rf'mine\.py has no {name}$'):
        plan([Row('mine', str(path))], tmp_path / 'study')
    path.write_text(f'{base}broken = (\n')
    with pytest.raises(ValueError, match=r'mine\.py cannot be read as a config: SyntaxError'):
        plan([Row('mine', str(path))], tmp_path / 'study')
    assert not (tmp_path / 'study').exists()


def test_a_config_that_trains_by_epochs_is_refused(tmp_path):
    path = tmp_path / 'mine.py'
    base = f"_base_ = __import__('mmseg_ctx').config_path({FCN!r})\n"
    path.write_text(f'{base}train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=2)\n')
    with pytest.raises(ValueError, match=r'mine\.py must train by iterations \(train_cfg'):
        run_config(Row('mine', str(path)), seed=0)


def test_one_scheduler_without_a_list(tmp_path):
    path = tmp_path / 'mine.py'
    base = f"_base_ = __import__('mmseg_ctx').config_path({FCN!r})\n"
    path.write_text(f"{base}param_scheduler = dict(_delete_=True, type='PolyLR', end=600)\n")
    config = run_config(Row('mine', str(path)), seed=0, iterations=60)
    assert [(each.begin, each.end) for each in config.param_scheduler] == [(0, 60)]


def test_two_rows_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows must differ in their names, .* called 'fcn'"):
        plan([Row('fcn', FCN), Row('dmnet', FCN), Row('fcn', CAC_FCN)], tmp_path)
    assert not list(tmp_path.iterdir())


def _is_finished(run):
    return (run.folder / 'result.json').exists()


def test_a_plan_goes_seed_by_seed(tmp_path):
    rows = [Row('b', FCN, seeds=(0, 1)), Row('a', FCN, seeds=(0,))]
    assert [(run.name, run.seed) for run in plan(rows, tmp_path)] == [('b', 0), ('a', 0), ('b', 1)]
    assert [(run.name, run.seed) for run in plan(rows, tmp_path, seeds=[1])] == [('b', 1), ('a', 1)]


def test_a_folder_of_other_settings_is_refused_and_forced(tmp_path):
    row = Row('fcn', FCN)
    (run,) = plan([row], tmp_path, seeds=[0], iterations=2)
    (run.folder / 'result.json').write_text('{}')
    assert plan([row], tmp_path, seeds=[0], iterations=2) == [run]
    with pytest.raises(ValueError, match=r'other settings.*--force'):
        plan([row], tmp_path, seeds=[0], iterations=3)
    assert _is_finished(run)
    plan([row], tmp_path, seeds=[0], iterations=3, force=True)
    assert not _is_finished(run)


def test_a_run_that_starts_from_one_that_changes_is_trained_anew(tmp_path):
    rows = [Row('fcn', FCN), Row('cac-fcn', CAC_FCN, start_from='fcn')]
    runs = plan(rows, tmp_path, seeds=[0])
    assert runs[1].start == runs[0]
    for run in runs:
        (run.folder / 'result.json').write_text('{}')
    rows[0] = Row('fcn', FCN, {'model.decode_head.channels': 8})
    plan(rows, tmp_path, seeds=[0], force=True)
    assert not any(map(_is_finished, runs))


def test_a_row_starts_from_an_earlier_one_with_its_seed(tmp_path):
    rows = [Row('fcn', FCN, seeds=(0,)), Row('cac-fcn', CAC_FCN, seeds=(1,), start_from='fcn')]
    with pytest.raises(ValueError, match=r"'cac-fcn' starts from 'fcn', .* with seed 1"):
        plan(rows, tmp_path)
    for wrong in (rows[::-1], rows[1:]):
        with pytest.raises(ValueError, match=r"'fcn', which is not trained before it with seed 3"):
            plan(wrong, tmp_path, seeds=[3])
    assert not list(tmp_path.iterdir())


def test_written_settings_are_the_config(tmp_path):
    (run,) = plan([Row('fcn', FCN)], tmp_path, seeds=[0])
    written = Config.fromfile(run.folder / 'settings.py')
    assert written.to_dict() == run_config(Row('fcn', FCN), 0).to_dict()


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
    config = run_config(Row('cac-fcn', CAC_FCN, TINY), seed=0, iterations=4)
    config.work_dir = str(tmp_path)
    _StopAfter.done = 0
    config.custom_hooks = [dict(type='_StopAfter', iterations=3, priority='VERY_LOW')]
    with pytest.raises(KeyboardInterrupt):
        train_and_test(config)
    assert _StopAfter.done == 3
    config.custom_hooks = [dict(type='_StopAfter')]
    result = train_and_test(config)
    assert _StopAfter.done == 4
    assert list(result['metrics']) == ['prior', 'refined', 'oracle']
    assert {'mIoU', 'mIoU_context', 'mIoU_relative', 'mIoU_thin'} <= set(result['metrics']['prior'])
    assert result['metrics']['prior'] != result['metrics']['oracle']
    assert {'parameters', 'torch', 'seconds'} < set(result)
    json.dumps(result)


def test_two_stages_with_curves(tmp_path, monkeypatch):
    frozen = {**TINY, 'optim_wrapper.optimizer.lr': 0.0}
    rows = [
        Row('fcn', FCN, TINY, iterations=3, validate_every=2),
        Row('fcn-again', FCN, frozen, iterations=1, validate_every=1, start_from='fcn'),
    ]
    runs = plan(rows, tmp_path, seeds=[0])
    for run in runs:
        monkeypatch.setattr(study_run.sys, 'argv', ['study_run', str(run.folder)])
        main()
    first, second = finished_results(tmp_path)
    assert [point['iteration'] for point in first['curve']] == [2, 3]
    assert first['curve'][-1]['mIoU'] == first['metrics']['model']['mIoU']
    before, after = (
        load_checkpoint(run.folder / f'work_dir/iter_{length}.pth')[0]
        for run, length in zip(runs, (3, 1), strict=True)
    )
    for name in ('decode_head.conv_seg.weight', 'backbone.conv1.weight'):
        assert torch.equal(before[name], after[name])
    assert [point['iteration'] for point in second['curve']] == [1]


def test_a_run_waits_for_the_one_that_it_starts_from(tmp_path, monkeypatch):
    head = Run('head', 0, tmp_path / 'head')
    broken = Run('broken', 0, tmp_path / 'broken')
    two = Run('two', 0, tmp_path / 'two', start=head)
    none = Run('none', 0, tmp_path / 'none', start=broken)
    ended = []

    def call(command, stdout, stderr, env):
        folder = Path(command[-1])
        if folder.name == 'head':
            time.sleep(0.2)
        ended.append(folder.name)
        return int(folder.name == 'broken')

    for run in (head, two, broken, none):
        run.folder.mkdir()
    monkeypatch.setattr(study.subprocess, 'call', call)
    errors = dict(execute([head, two, broken, none], jobs=4))
    assert ended.index('head') < ended.index('two')
    assert errors[head] is errors[two] is None
    assert 'exit status 1' in errors[broken]
    assert errors[none] == 'the run that it starts from failed'
    assert 'none' not in ended


def _planned(tmp_path, *names):
    runs = [Run(name, 0, tmp_path / name) for name in names]
    for run in runs:
        run.folder.mkdir(parents=True)
    return runs


def test_a_run_that_fails_does_not_lose_the_others(tmp_path, monkeypatch):
    runs = _planned(tmp_path, 'broken', 'done', 'fine')
    (runs[1].folder / 'result.json').write_text('{"kept": 1}')

    def call(command, stdout, stderr, env):
        folder = command[-1]
        assert env['CUDA_VISIBLE_DEVICES'] == ''
        if folder.endswith('broken'):
            stdout.write('Traceback\nValueError: no such head\n\n')
            return 1
        assert folder.endswith('fine')
        (runs[2].folder / 'result.json').write_text('{}')
        return 0

    monkeypatch.setattr(study.subprocess, 'call', call)
    errors = dict(execute(runs, jobs=2))
    assert errors[runs[1]] is errors[runs[2]] is None
    assert errors[runs[0]].endswith('log.txt: ValueError: no such head')
    assert 'exit status 1' in errors[runs[0]]
    assert (runs[1].folder / 'result.json').read_text() == '{"kept": 1}'


def _result(folder, metrics, parameters=1_000_000, **entries):
    folder.mkdir(parents=True)
    result = dict(metrics=metrics, parameters=parameters, **entries)
    (folder / 'result.json').write_text(json.dumps(result))


@pytest.fixture
def finished():
    models = [dict(aAcc=90.0, mIoU=50.0, mIoU_far=20.0), dict(aAcc=92.0, mIoU=54.0, mIoU_far=24.0)]
    classifiers = {name: dict(mIoU=60.0) for name in ('prior', 'refined', 'oracle')}
    results = [
        dict(row='fcn', seed=0, parameters=1_000_000, metrics=dict(model=models[0])),
        dict(row='fcn', seed=1, parameters=1_000_000, metrics=dict(model=models[1])),
        dict(row='cac-fcn', seed=1, parameters=2_000_000, metrics=classifiers),
    ]
    return summarize(results, dict(fcn='baseline', later='nothing'))


def _shown(draw, summary, known={}):
    return draw('Streets', metric_titles(summary, known), summary)


def test_the_table_has_mean_and_deviation(finished):
    lines = render([_shown(study_table, finished)], 'markdown').splitlines()
    assert lines[2] == '| row | shows | mIoU | mIoU far | parameters [M] | seeds |'
    assert lines[4] == '| fcn | baseline | 52.0 ± 2.8 | 22.0 ± 2.8 | 1.00 | 2 |'
    assert lines[5] == '| cac-fcn, prior |  | 60.0 |  | 2.00 | 1 |'
    assert [line.split(' | ')[0] for line in lines[6:8]] == [
        '| cac-fcn, refined',
        '| cac-fcn, oracle',
    ]
    assert 'later' not in '\n'.join(lines)


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == '2.0 ± 1.0'
    assert mean_and_deviation([1.25]) == '1.2'


def test_the_picture_has_a_panel_for_each_metric_and_a_bar_for_each_row(finished):
    first, second = _shown(study_picture, finished).axes
    assert [label.get_text() for label in first.get_yticklabels()] == [
        'fcn',
        'cac-fcn, prior',
        'cac-fcn, refined',
        'cac-fcn, oracle',
    ]
    assert [bar.get_width() for bar in first.patches] == [52.0, 60.0, 60.0, 60.0]
    assert [bar.get_width() for bar in second.patches] == [22.0]


def test_the_columns_are_those_of_the_suite(finished):
    metrics = {'mIoU_far': 'far', 'aAcc': 'pixels'}
    lines = render([_shown(study_table, finished, metrics)], 'markdown')
    assert lines.startswith('**Streets**\n\n| row | shows | far | pixels | parameters [M] |')
    assert '| fcn | baseline | 22.0 ± 2.8 | 91.0 ± 1.4 | 1.00 | 2 |' in lines


def test_metrics_of_another_kind_are_shown():
    results = [dict(row='fcn', seed=0, parameters=1, metrics=dict(model=dict(mDice=70.0)))]
    summary = summarize(results, {})
    for known in ({}, {'mIoU_far': 'far'}):
        assert '| fcn |  | 70.0 |' in render([_shown(study_table, summary, known)], 'markdown')
        (panel,) = _shown(study_picture, summary, known).axes
        assert panel.get_title() == 'mDice'


def test_a_run_without_metrics_has_no_picture(tmp_path):
    # As of a test set with secret labels.
    results = [dict(row='fcn', seed=0, parameters=1, metrics=dict(model={}), curve=[])]
    write_report(SCENES, [], results, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['study.json', 'study.md']


def test_curves_have_a_line_for_each_row_within_the_seeds():
    results = [
        dict(row=row, seed=seed, curve=[dict(iteration=step, mIoU=value + step) for step in (1, 2)])
        for row, seed, value in (('fcn', 0, 50.0), ('fcn', 1, 54.0), ('dmnet', 0, 60.0))
    ]
    (panel,) = curves_picture('Streets', dict(mIoU='mIoU'), results).axes
    line, other = panel.lines
    assert (line.get_label(), other.get_label()) == ('fcn', 'dmnet')
    assert line.get_xydata().tolist() == [[1, 53.0], [2, 54.0]]
    assert {51.0, 55.0, 52.0, 56.0} == set(panel.collections[0].get_paths()[0].vertices[:, 1])
    results.append(dict(row='other', seed=0, curve=[dict(iteration=1, mDice=70.0)]))
    (panel,) = curves_picture('Streets', dict(mIoU='mIoU'), results).axes
    assert [len(line.get_xdata()) for line in panel.lines] == [2, 2, 0]
    only_tested = dict(mIoU='mIoU', mIoU_far='mIoU far')
    assert len(curves_picture('Streets', only_tested, results).axes) == 1
    assert curves_picture('', dict(mIoU='mIoU'), [dict(row='fcn', seed=0, curve=[])]) is None


def test_the_report_is_written_over_an_earlier_one(tmp_path):
    row = Row('fcn', FCN, shows='baseline')
    assert write_report(SCENES, [row], [], tmp_path) is None
    assert not list(tmp_path.iterdir())
    for seed, value in ((0, 50.0), (1, 54.0)):
        _result(tmp_path / f'runs/fcn/seed{seed}', dict(model=dict(mIoU=value)))
        write_report(SCENES, [row], finished_results(tmp_path), tmp_path)
    (table,) = json.loads((tmp_path / 'study.json').read_text())
    assert table['rows'][0]['metrics']['mIoU'] == [50.0, 54.0]
    assert (tmp_path / 'study.png').stat().st_size > 1000
    assert not (tmp_path / 'study-curves.png').exists()
    assert '| fcn | baseline | 52.0 ± 2.8 |' in (tmp_path / 'study.md').read_text()


def test_the_report_has_the_finished_runs_that_are_not_planned(tmp_path):
    for name, seed in (('mine', 0), ('dmnet', 1), ('dmnet', 0), ('fcn', 0), ('dmnet', 10)):
        _result(tmp_path / f'runs/{name}/seed{seed}', dict(model=dict(mIoU=50.0 + seed)))
    (tmp_path / 'runs/acnet/seed0').mkdir(parents=True)
    results = finished_results(tmp_path)
    table = write_report(SCENES, [Row('planned', FCN)], results, tmp_path, picture=False)
    assert [row['label'] for row in table.rows] == ['fcn', 'dmnet', 'mine']
    assert [row['seeds'] for row in table.rows] == [[0], [0, 1, 10], [0]]
    assert [row['shows'] for row in table.rows] == ['the baseline of all', 'DMNet', '']
    assert not (tmp_path / 'study.png').exists()


def test_the_report_is_the_same_without_the_runs(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    for seed in (0, 1):
        curve = [dict(iteration=step, mIoU=40.0 + step) for step in (1, 2)]
        metrics = dict(model=dict(mIoU=50.0 + seed))
        _result(old / f'runs/fcn/seed{seed}', metrics, curve=curve, seconds=7)
    write_report(SCENES, [], finished_results(old), old)
    new.mkdir()
    results = read_results(old / 'study.json')
    assert results == finished_results(old)
    write_report(SCENES, [], results, new)
    assert len(list(new.iterdir())) == 4
    for path in new.iterdir():
        assert path.read_bytes() == (old / path.name).read_bytes(), path.name


def test_the_results_of_several_studies_are_one_report(tmp_path):
    parts, results = [], []
    for seed in (0, 1):
        _result(tmp_path / f'{seed}/runs/fcn/seed{seed}', dict(model=dict(mIoU=50.0 + seed)))
        results += finished_results(tmp_path / str(seed))
        write_report(SCENES, [], results[-1:], tmp_path / str(seed), picture=False)
        parts.append(tmp_path / str(seed) / 'study.json')
    assert read_results(*parts) == results
    with pytest.raises(ValueError, match="has row 'fcn' with seed 1, as a file before"):
        read_results(*parts, parts[1])


def test_a_file_without_results_is_refused(tmp_path):
    path = tmp_path / 'study.json'
    path.write_text('[{"title": "of an older version", "rows": []}]')
    with pytest.raises(
        ValueError, match=r"study\.json has no results of a study: KeyError: 'runs'"
    ):
        read_results(path)


SUITE = """\
title: Streets
defaults: {config: fcn.py, validate_every: 10, seeds: [4]}
quick: {rows: [head], iterations: 5}
rows:
- {name: head, group: base}
- {name: two, start_from: head, seeds: [5, 6], overrides: {a.b: 1}}
- {name: three, start_from: two, by_default: false}
"""


def test_a_suite_is_read_from_a_file(tmp_path):
    path = tmp_path / 'streets.yml'
    path.write_text(SUITE)
    suite = read_suite(str(path))
    head, two, three = (
        Row('head', 'fcn.py', group='base', validate_every=10, seeds=[4]),
        Row('two', 'fcn.py', {'a.b': 1}, start_from='head', validate_every=10, seeds=[5, 6]),
        Row('three', 'fcn.py', start_from='two', validate_every=10, seeds=[4], by_default=False),
    )
    quick = (head._replace(iterations=5, seeds=(0,)),)
    assert suite == Suite('Streets', (head, two, three), quick, 'work_dirs/study-streets')
    assert select(suite.rows, []) == [head, two]
    assert select(suite.rows, ['base']) == [head]
    assert select(suite.rows, ['three']) == [head, two, three]
    with pytest.raises(ValueError, match="--rows must be among head, two, three, base, got 'fuor'"):
        select(suite.rows, ['base', 'fuor'])


@pytest.mark.parametrize(
    ('text', 'change', 'message'),
    [
        ('start_from: two', 'start_from: four', "'three' must start from an earlier row, got 'fou"),
        ('name: two', 'name: head', "two rows are called 'head'"),
        ('rows: [head]', 'rows: [hat]', "quick names a row that is not there, 'hat'"),
        ('rows: [head]', 'rows: [base]', "quick names a row that is not there, 'base'"),
        ('iterations: 5', 'iteration: 5', "unexpected keyword argument 'iteration'"),
        ('validate_every', 'validate', "unexpected keyword argument 'validate'"),
        ('title: Streets', 'text', 'Error'),
    ],
)
def test_a_wrong_suite_is_one_line(text, change, message, tmp_path):
    path = tmp_path / 'streets.yml'
    path.write_text(SUITE.replace(text, change))
    with pytest.raises(ValueError, match=rf'streets\.yml cannot be read as a suite.*{message}'):
        read_suite(str(path))


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(ValueError, match=r"among .*context-scenes.* or a table file, got 'scene'"):
        read_suite('scene')


@pytest.mark.parametrize('row', read_suite('camvid').rows, ids=lambda row: row.name)
def test_the_rows_of_camvid_leave_the_test_images_alone(row):
    config = run_config(row, seed=0)
    assert config.model.decode_head.get('head', config.model.decode_head).num_classes == 11
    for loader, part in ((config.train_dataloader, 'train'), (config.test_dataloader, 'val')):
        assert loader.dataset.data_prefix == dict(img_path=part, seg_map_path=f'{part}annot')


@pytest.mark.parametrize('name', suite_names())
def test_the_quick_study_of_each_suite_has_a_row_for_each_method(name):
    rows = {row.name for row in read_suite(name).quick}
    for method in ('fcn', 'cacnet', 'acnet', 'dmnet', 'ctnet', 'cac'):
        assert any(row.startswith(method) for row in rows), method
