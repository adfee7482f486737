"""Tables and pictures of a study, from the results of its runs."""

import statistics

from matplotlib.figure import Figure

from mmseg_ctx.analysis.study import finished_runs
from mmseg_ctx.analysis.study_suite import Row
from mmseg_ctx.utils.files import refuse_existing, write_figure, writing
from mmseg_ctx.utils.tables import Column, Table, millions, render

FILES = ('study.md', 'study.json', 'study.png', 'study-curves.png')


def summarize(rows, runs, metrics=()):
    """Gather what the runs of each row have measured.

    Args:
        rows (Sequence[Row]): In the order of the table.
        runs (Sequence[Run]): Their runs; those without a result are left out.
        metrics (Collection[str]): Names of the metrics. Default: those that begin with ``mIoU``.

    Returns:
        list[dict]: An entry for each test of each row: ``row``, ``classifier`` (name of the test,
        None for the only one), ``shows``, ``parameters``, ``seeds``, and ``metrics``, which has a
        list of percentages for each name, one for each seed. A row's first entry also has
        ``curves``, one for each seed, if the row was validated while it was trained.
    """
    summary = []
    for row in rows:
        results = {run.seed: run.result() for run in runs if run.name == row.name}
        results = {seed: result for seed, result in sorted(results.items()) if result}
        if results:
            summary += _summarize_row(row, results, metrics)
    return summary


def _summarize_row(row, results, metrics):
    first = next(iter(results.values()))
    curves = [result['curve'] for result in results.values() if result.get('curve')]
    for test, measured in first['metrics'].items():
        names = [name for name in metrics or measured if metrics or name.startswith('mIoU')]
        yield dict(
            row=row.name,
            classifier=None if test == 'model' else test,
            shows=row.shows,
            parameters=first['parameters'],
            seeds=list(results),
            metrics={
                name: [result['metrics'][test][name] for result in results.values()]
                for name in names
                if name in measured
            },
            **(dict(curves=curves) if curves else {}),
        )
        curves = []


def label(entry):
    """Return the name of a summary's entry, such as ``'cac-fcn, prior'``."""
    return ', '.join(filter(None, (entry['row'], entry['classifier'])))


def metric_title(name):
    """Return the heading for a metric's name: ``'mIoU'``, ``'mIoU context'`` …"""
    return name.replace('_', ' ').replace('.', ' ')


def mean_and_deviation(values):
    """Show a mean and, for two or more values, the sample's standard deviation."""
    mean = f'{statistics.mean(values):.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def study_table(suite, summary):
    """Return the table of a summary: mean ± standard deviation over the seeds, of each metric."""
    columns = (
        Column('label', 'row'),
        Column('shows', 'shows'),
        *(
            Column('metrics', title, lambda metrics, name=name: _shown(metrics, name))
            for name, title in _titles(suite, summary).items()
        ),
        Column('parameters', 'parameters [M]', millions),
        Column('seeds', 'seeds', lambda seeds: str(len(seeds))),
    )
    rows = [dict(label=label(entry), **entry) for entry in summary]
    facts = ('mIoU in percent, mean ± standard deviation over the seeds.',)
    return Table(suite.title, columns, rows, facts)


def _titles(suite, summary):
    """Return the metrics of a study with their headings, in their order."""
    names = dict.fromkeys(name for entry in summary for name in entry['metrics'])
    return {name: suite.metrics.get(name, metric_title(name)) for name in names}


def _shown(metrics, name):
    return mean_and_deviation(metrics[name]) if name in metrics else ''


def study_picture(suite, summary):
    """Return a figure of a summary: a panel for each metric, a bar for each entry."""
    titles = _titles(suite, summary)
    figure = Figure((2.2 + 2.6 * len(titles), 1.2 + 0.27 * len(summary)), layout='constrained')
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        _draw_panel(panel, summary, name)
        panel.set_title(title)
    panels[0].set_yticks(range(len(summary)), map(label, summary))
    panels[0].set_ylim(len(summary) - 0.4, -0.6)
    figure.suptitle(f'{suite.title}: mean over the seeds; dots are the seeds')
    return figure


def curves_picture(suite, summary):
    """Return a figure of the metrics against the iterations; None if no entry has curves.

    A line is the mean over the seeds, the band around it goes from the lowest to the highest.
    """
    entries = [entry for entry in summary if entry.get('curves')]
    if not entries:
        return None
    titles = _titles(suite, entries)
    figure = Figure((1.5 + 4 * len(titles), 4), layout='constrained')
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for entry in entries:
            _draw_curve(panel, entry, name)
        panel.set_title(title)
        panel.set_xlabel('iterations')
        panel.set_ylabel('%')
        panel.grid(linewidth=0.5)
    panels[-1].legend(fontsize='small')
    figure.suptitle(f'{suite.title}: mean over the seeds; bands are the seeds')
    return figure


def _draw_curve(panel, entry, name):
    values = {}
    for curve in entry['curves']:
        for point in curve:
            values.setdefault(point['iteration'], []).append(point[name])
    iterations = sorted(values)
    means, lows, highs = (
        [reduce(values[iteration]) for iteration in iterations]
        for reduce in (statistics.mean, min, max)
    )
    (line,) = panel.plot(iterations, means, label=entry['row'])
    panel.fill_between(iterations, lows, highs, color=line.get_color(), alpha=0.2, linewidth=0)


def _draw_panel(panel, summary, name):
    colours = dict(prior='tab:gray', refined='tab:orange', oracle='tab:green')
    for place, entry in enumerate(summary):
        values = entry['metrics'].get(name)
        if not values:
            continue
        colour = colours.get(entry['classifier'], 'tab:blue')
        panel.barh(place, statistics.mean(values), color=colour, alpha=0.6, height=0.7)
        panel.plot(values, [place] * len(values), 'o', color='black', markersize=2.5)
    panel.set_xlabel('%')
    panel.set_xlim(0, 100)
    panel.grid(axis='x', linewidth=0.5)
    panel.set_axisbelow(True)


def refuse_other_files(out, force=False):
    """Raise a FileExistsError if a folder without a study has files named like a report.

    With ``force`` they may be replaced. The folder need not exist.
    """
    if not (out / 'runs').is_dir():
        for name in FILES:
            refuse_existing(out / name, force)


def write_report(suite, rows, out, picture=True):
    """Write ``study.md``, ``study.json`` and the pictures of all finished runs in a folder.

    Args:
        suite (Suite): Title, columns and order of the rows.
        rows (Sequence[Row]): The rows that were planned. Other rows that the folder has come last.
        out (Path): The study's folder. Earlier reports in it are replaced.
        picture (bool): Whether to draw. Default: True.

    Returns:
        Table | None: The table; None if no run has a result, and nothing is written.
    """
    runs = finished_runs(out)
    names = dict.fromkeys(each.name for each in (*suite.rows, *rows, *runs))
    known = {row.name: row for row in (*suite.rows, *rows)}
    rows = [known.get(name) or Row(name, '') for name in names]
    summary = summarize(rows, runs, suite.metrics)
    if not summary:
        return None
    table = study_table(suite, summary)
    for name, style in zip(FILES, ('markdown', 'json'), strict=False):
        with writing(out / name, force=True) as temporary:
            temporary.write_text(render([table], style))
    if picture:
        for name, draw in zip(FILES[2:], (study_picture, curves_picture), strict=True):
            if figure := draw(suite, summary):
                with writing(out / name, force=True) as temporary:
                    write_figure(figure, temporary, dpi=150)
    return table
