"""The table and the picture of a study, from the results of its runs."""

import statistics

from matplotlib.figure import Figure

from mmseg_ctx.analysis.study import finished_runs
from mmseg_ctx.analysis.study_rows import ROWS, Row
from mmseg_ctx.utils.files import refuse_existing, writing
from mmseg_ctx.utils.tables import Column, Table, millions, render

FILES = ('study.md', 'study.json', 'study.png')


def summarize(rows, runs):
    """Gather what the runs of each row have measured.

    Args:
        rows (Sequence[Row]): In the order of the table.
        runs (Sequence[Run]): Of these rows; those without a result are left out.

    Returns:
        list[dict]: For each row, and for each classifier of a context-aware one: ``row``,
        ``classifier`` (None where there is but one), ``shows``, ``parameters``, ``seeds``, and
        ``metrics``, which has for each name of an mIoU the values in percent, one a seed.
    """
    summary = []
    for row in rows:
        results = {run.seed: run.result() for run in runs if run.name == row.name}
        results = {seed: result for seed, result in sorted(results.items()) if result}
        if results:
            summary += _summarize_row(row, results)
    return summary


def _summarize_row(row, results):
    first = next(iter(results.values()))
    for classifier, metrics in first['metrics'].items():
        names = [name for name in metrics if name.startswith('mIoU')]
        yield dict(
            row=row.name,
            classifier=None if classifier == 'model' else classifier,
            shows=row.shows,
            parameters=first['parameters'],
            seeds=list(results),
            metrics={
                name: [result['metrics'][classifier][name] for result in results.values()]
                for name in names
            },
        )


def label(entry):
    """Return the name of an entry of a summary, such as ``'cac-fcn, prior'``."""
    return ', '.join(filter(None, (entry['row'], entry['classifier'])))


def metric_title(name):
    """Return the heading for a metric's name: ``'mIoU'``, ``'mIoU context'`` …"""
    return name.replace('_', ' ').replace('.', ' ')


def mean_and_deviation(values):
    """Show the mean and, of two or more values, the sample's standard deviation."""
    mean = f'{statistics.mean(values):.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def study_table(summary):
    """Return the table of a study.

    Args:
        summary (list[dict]): As :func:`summarize` gives it.

    Returns:
        Table: Mean ± standard deviation over the seeds, of each mIoU.
    """
    names = dict.fromkeys(name for entry in summary for name in entry['metrics'])
    columns = (
        Column('label', 'row'),
        Column('shows', 'shows'),
        *(
            Column('metrics', metric_title(name), lambda metrics, name=name: _shown(metrics, name))
            for name in names
        ),
        Column('parameters', 'parameters [M]', millions),
        Column('seeds', 'seeds', lambda seeds: str(len(seeds))),
    )
    rows = [dict(label=label(entry), **entry) for entry in summary]
    facts = ('mIoU in percent, mean ± standard deviation over the seeds.',)
    return Table('Context scenes', columns, rows, facts)


def _shown(metrics, name):
    return mean_and_deviation(metrics[name]) if name in metrics else ''


def study_picture(summary):
    """Draw a study: a panel for each mIoU, a bar for each row, a dot for each seed.

    Args:
        summary (list[dict]): As :func:`summarize` gives it, not empty.

    Returns:
        matplotlib.figure.Figure: To be saved.
    """
    names = list(dict.fromkeys(name for entry in summary for name in entry['metrics']))
    figure = Figure((2.2 + 2.6 * len(names), 1.2 + 0.27 * len(summary)), layout='constrained')
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _draw_panel(panel, summary, name)
    panels[0].set_yticks(range(len(summary)), map(label, summary))
    panels[0].set_ylim(len(summary) - 0.4, -0.6)
    figure.suptitle('Context scenes: mean over the seeds; dots are the seeds')
    return figure


def _draw_panel(panel, summary, name):
    colours = dict(prior='tab:gray', refined='tab:orange', oracle='tab:green')
    for place, entry in enumerate(summary):
        values = entry['metrics'].get(name)
        if not values:
            continue
        colour = colours.get(entry['classifier'], 'tab:blue')
        panel.barh(place, statistics.mean(values), color=colour, alpha=0.6, height=0.7)
        panel.plot(values, [place] * len(values), 'o', color='black', markersize=2.5)
    panel.set_title(metric_title(name))
    panel.set_xlabel('%')
    panel.set_xlim(0, 100)
    panel.grid(axis='x', linewidth=0.5)
    panel.set_axisbelow(True)


def refuse_other_files(out, force=False):
    """Raise a FileExistsError where files named like a report lie in a folder without a study.

    Args:
        out (Path): The study's folder, which need not exist.
        force (bool): Whether they may be replaced. Default: False.
    """
    if not (out / 'runs').is_dir():
        for name in FILES:
            refuse_existing(out / name, force)


def write_report(rows, out, picture=True):
    """Write ``study.md``, ``study.json`` and ``study.png``, over earlier ones.

    They have every finished run of the folder, so that a part of a study that is run again leaves
    the rest in the report.

    Args:
        rows (Sequence[Row]): Those that were planned, for what they show. Rows of the folder that
            are neither among them nor in the default study come last.
        out (Path): The study's folder.
        picture (bool): Whether to draw one. Default: True.

    Returns:
        Table | None: None where no run has a result, and nothing is written.
    """
    runs = finished_runs(out)
    names = dict.fromkeys(each.name for each in (*ROWS, *rows, *runs))
    known = {row.name: row for row in (*ROWS, *rows)}
    summary = summarize([known.get(name) or Row(name, '') for name in names], runs)
    if not summary:
        return None
    table = study_table(summary)
    for name, style in zip(FILES, ('markdown', 'json'), strict=False):
        with writing(out / name, force=True) as temporary:
            temporary.write_text(render([table], style))
    if picture:
        with writing(out / FILES[-1], force=True) as temporary:
            study_picture(summary).savefig(temporary, dpi=150)
    return table
