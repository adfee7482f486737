"""Tables and pictures of a study, from the results of its runs."""

import json
from functools import partial
from itertools import groupby
from operator import itemgetter
from statistics import mean, stdev

from matplotlib.figure import Figure

from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.files import write_figure, writing
from mmseg_ctx.utils.tables import Column, Table, millions, render

FILES = ('study.md', 'study.json', 'study-curves.png')


def read_results(*paths):
    """Return the results in one or more ``study.json`` (Path) for :func:`write_report`: list[dict].

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is no ``study.json``, or an older one, without the results; or two files
            have the same row with the same seed.
    """
    results = {}
    for path in paths:
        text = path.read_text()
        with value_errors(f'{path} has no results of a study'):
            (table,) = json.loads(text)
            runs = {(run['row'], run['seed']): run for run in table['runs']}
        if twice := sorted(runs.keys() & results.keys()):
            row, seed = twice[0]
            raise ValueError(f'{path} has row {row!r} with seed {seed}, as a file before it has')
        results |= runs
    return list(results.values())


def write_report(suite, rows, results, out):
    """Write ``study.md``, ``study.json`` and, if there are curves, ``study-curves.png``.

    With the metrics ``IoU_<class>``, ``study.md`` has a table of the classes, too.

    The rows of the suite come first, then the planned ``rows``, then those that only ``results``
    has, which come from ``finished_results`` or :func:`read_results`.

    Returns:
        Table | None: The table; None if there is no result, and nothing is written.
    """
    if not results:
        return None
    shows = {row.name: row.shows for row in (*suite.rows, *rows)}
    names = [*shows, *(result['row'] for result in results)]
    results = sorted(results, key=lambda result: (names.index(result['row']), result['seed']))
    summary = summarize(results, shows)
    titles = metric_titles(summary, suite.metrics or {})
    table = study_table(suite.title, titles, summary)
    content = dict(title=table.title, rows=table.rows, facts=table.facts, runs=results)
    tables = [table, *class_tables(summary)]
    texts = [render(tables, 'markdown'), json.dumps([content], indent=1) + '\n']
    for name, text in zip(FILES, texts, strict=False):
        with writing(out / name, force=True) as temporary:
            temporary.write_text(text)
    if figure := curves_picture(suite.title, titles, results):
        with writing(out / FILES[-1], force=True) as temporary:
            write_figure(figure, temporary, dpi=150)
    return table


def summarize(results, shows):
    """Return an entry (dict) for each test of each row, from results that are sorted by rows.

    ``classifier`` is the name of the test, or None for the only one of a row; ``metrics`` has for
    each name a list of percentages, one for each seed; ``shows`` tells what the rows are for.
    """
    summary = []
    for row, own in groupby(results, itemgetter('row')):
        own = list(own)
        for test, metrics in own[0]['metrics'].items():
            entry = dict(
                label=row if test == 'model' else f'{row}, {test}',
                row=row,
                classifier=None if test == 'model' else test,
                shows=shows.get(row, ''),
                parameters=own[0]['parameters'],
                seeds=[result['seed'] for result in own],
                metrics={name: [each['metrics'][test][name] for each in own] for name in metrics},
            )
            summary.append(entry)
    return summary


def metric_titles(summary, known):
    """Return headings by name (dict) of the measured metrics: known ones, or all mIoU, or all."""
    names = dict.fromkeys(name for entry in summary for name in entry['metrics'])
    shown = [name for name in names if name.startswith('mIoU')] or names
    own = {name: title for name, title in known.items() if name in names}
    return own or {name: name.replace('_', ' ').replace('.', ' ') for name in shown}


def study_table(title, titles, summary):
    """Return the table of a summary: mean ± standard deviation over the seeds, of each metric."""

    columns = (
        Column('label', 'row'),
        Column('shows', 'shows'),
        *(Column('metrics', heading, partial(_show, name)) for name, heading in titles.items()),
        Column('parameters', 'parameters [M]', millions),
        Column('seeds', 'seeds', lambda seeds: str(len(seeds))),
    )
    facts = ('mIoU in percent, mean ± standard deviation over the seeds.',)
    return Table(title, columns, summary, facts)


def class_tables(summary):
    """Return the table of the IoU of each class, the mean over the seeds, where it was measured."""
    names = dict.fromkeys(name for entry in summary for name in entry['metrics'])
    columns = [
        Column('metrics', name.removeprefix('IoU_'), partial(_mean, name))
        for name in names
        if name.startswith('IoU_')
    ]
    facts = ('IoU in percent, mean over the seeds.',)
    return [Table('Classes', (Column('label', 'row'), *columns), summary, facts)] if columns else []


def _mean(name, metrics):
    return f'{mean(metrics[name]):.1f}' if name in metrics else ''


def _show(name, metrics):
    values = metrics.get(name, ())
    deviation = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{deviation}' if values else ''


def curves_picture(title, titles, results):
    """Return a figure of the metrics against the iterations; None if no run was validated.

    A line is the mean over the seeds, the band around it goes from the lowest to the highest.
    """
    curves = {}
    for result in results:
        for point in result.get('curve', ()):
            for name in titles.keys() & point.keys():
                lines = curves.setdefault(name, {}).setdefault(result['row'], {})
                lines.setdefault(point['iteration'], []).append(point[name])
    if not curves:
        return None
    figure = Figure((1.5 + 4 * len(curves), 4), layout='constrained')
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, name in zip(panels, filter(curves.get, titles), strict=True):
        for row, values in curves[name].items():
            iterations = sorted(values)
            line, *band = ([each(values[x]) for x in iterations] for each in (mean, min, max))
            (drawn,) = panel.plot(iterations, line, label=row)
            panel.fill_between(iterations, *band, color=drawn.get_color(), alpha=0.2, linewidth=0)
        panel.set(title=titles[name], xlabel='iterations', ylabel='%')
        panel.grid(linewidth=0.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside right center')
    figure.suptitle(f'{title}: mean over the seeds; bands are the seeds')
    return figure
