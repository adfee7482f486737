"""Tables and pictures of a study, from the results of its runs."""

import json
import statistics

from matplotlib.figure import Figure

from mmseg_ctx.analysis.study_suite import Row
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.files import write_figure, writing
from mmseg_ctx.utils.tables import Column, Table, millions, render

FILES = ('study.md', 'study.json', 'study.png', 'study-curves.png')
COLOURS = dict(prior='tab:gray', refined='tab:orange', oracle='tab:green')


def read_results(*paths):
    """Return the results that the ``study.json`` of one or more studies have together.

    Args:
        *paths (Path): The files.

    Returns:
        list[dict]: For :func:`write_report`.

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


def summarize(rows, results):
    """Gather what the runs of each row have measured.

    Args:
        rows (Sequence[Row]): In the order of the table.
        results (Sequence[dict]): From ``finished_results`` or :func:`read_results`.

    Returns:
        list[dict]: An entry for each test of each row: ``label``, ``row``, ``classifier`` (name of
        the test, None for the only one), ``shows``, ``parameters``, ``seeds``, and ``metrics``,
        which has a list of percentages for each name, one for each seed.
    """
    summary = []
    for row in rows:
        own = [result for result in results if result['row'] == row.name]
        for test, metrics in own[0]['metrics'].items() if own else ():
            summary.append(
                dict(
                    label=row.name if test == 'model' else f'{row.name}, {test}',
                    row=row.name,
                    classifier=None if test == 'model' else test,
                    shows=row.shows,
                    parameters=own[0]['parameters'],
                    seeds=[result['seed'] for result in own],
                    metrics={
                        name: [result['metrics'][test][name] for result in own] for name in metrics
                    },
                )
            )
    return summary


def mean_and_deviation(values):
    """Show a mean and, for two or more values, the sample's standard deviation."""
    mean = f'{statistics.mean(values):.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def study_table(suite, summary):
    """Return the table of a summary: mean ± standard deviation over the seeds, of each metric."""

    def show(name):
        return lambda metrics: mean_and_deviation(metrics[name]) if name in metrics else ''

    titles = _titles(suite, [entry['metrics'] for entry in summary])
    columns = (
        Column('label', 'row'),
        Column('shows', 'shows'),
        *(Column('metrics', title, show(name)) for name, title in titles.items()),
        Column('parameters', 'parameters [M]', millions),
        Column('seeds', 'seeds', lambda seeds: str(len(seeds))),
    )
    facts = ('mIoU in percent, mean ± standard deviation over the seeds.',)
    return Table(suite.title, columns, summary, facts)


def _titles(suite, measured):
    """Return headings by the names of the suite's metrics that were measured."""
    names = list(dict.fromkeys(name for each in measured for name in each))
    if own := {name: title for name, title in suite.metrics.items() if name in names}:
        return own
    shown = [name for name in names if name.startswith('mIoU')] or names
    return {name: name.replace('_', ' ').replace('.', ' ') for name in shown}


def study_picture(suite, summary):
    """Return a figure of a summary: a panel for each metric, a bar for each entry; None without."""
    titles = _titles(suite, [entry['metrics'] for entry in summary])
    if not titles:
        return None
    figure = Figure((2.2 + 2.6 * len(titles), 1.2 + 0.27 * len(summary)), layout='constrained')
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for place, entry in enumerate(summary):
            if values := entry['metrics'].get(name):
                colour = COLOURS.get(entry['classifier'], 'tab:blue')
                panel.barh(place, statistics.mean(values), color=colour, alpha=0.6, height=0.7)
                panel.plot(values, [place] * len(values), 'o', color='black', markersize=2.5)
        panel.set(title=title, xlabel='%', xlim=(0, 100), axisbelow=True)
        panel.grid(axis='x', linewidth=0.5)
    panels[0].set_yticks(range(len(summary)), [entry['label'] for entry in summary])
    panels[0].set_ylim(len(summary) - 0.4, -0.6)
    figure.suptitle(f'{suite.title}: mean over the seeds; dots are the seeds')
    return figure


def curves_picture(suite, results):
    """Return a figure of the metrics against the iterations; None if no run was validated.

    A line is the mean over the seeds, the band around it goes from the lowest to the highest.
    """
    curves = {}  # of each row, the points by their iteration
    for result in results:
        for point in result.get('curve', ()):
            row = curves.setdefault(result['row'], {})
            row.setdefault(point['iteration'], []).append(point)
    titles = _titles(suite, [point for result in results for point in result.get('curve', ())])
    titles.pop('iteration', None)
    if not titles:
        return None
    figure = Figure((1.5 + 4 * len(titles), 4), layout='constrained')
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for row, points in curves.items():
            # The config of a row may have metrics of its own.
            iterations = sorted(each for each in points if all(name in one for one in points[each]))
            values = [[point[name] for point in points[each]] for each in iterations]
            (line,) = panel.plot(iterations, list(map(statistics.mean, values)), label=row)
            band = list(map(min, values)), list(map(max, values))
            panel.fill_between(iterations, *band, color=line.get_color(), alpha=0.2, linewidth=0)
        panel.set(title=title, xlabel='iterations', ylabel='%')
        panel.grid(linewidth=0.5)
    panels[-1].legend(fontsize='small')
    figure.suptitle(f'{suite.title}: mean over the seeds; bands are the seeds')
    return figure


def write_report(suite, rows, results, out, picture=True):
    """Write ``study.md``, ``study.json`` and the pictures of results into a folder.

    Args:
        suite (Suite): Title, columns and order of the rows.
        rows (Sequence[Row]): The rows that were planned. Rows that only ``results`` has come last.
        results (Sequence[dict]): From ``finished_results`` or :func:`read_results`.
            ``study.json`` has them under ``runs``.
        out (Path): The folder. Earlier reports in it are replaced.
        picture (bool): Whether to draw. Default: True.

    Returns:
        Table | None: The table; None if there is no result, and nothing is written.
    """
    if not results:
        return None
    known = {row.name: row for row in (*suite.rows, *rows)}
    names = list(dict.fromkeys((*known, *(result['row'] for result in results))))
    results = sorted(results, key=lambda result: (names.index(result['row']), result['seed']))
    summary = summarize([known.get(name) or Row(name, '') for name in names], results)
    table = study_table(suite, summary)
    content = dict(title=table.title, rows=table.rows, facts=table.facts, runs=results)
    texts = (render([table], 'markdown'), json.dumps([content], indent=1) + '\n')
    for name, text in zip(FILES, texts, strict=False):
        with writing(out / name, force=True) as temporary:
            temporary.write_text(text)
    figures = (study_picture(suite, summary), curves_picture(suite, results)) if picture else ()
    for name, figure in zip(FILES[2:], figures, strict=False):
        if figure:
            with writing(out / name, force=True) as temporary:
                write_figure(figure, temporary, dpi=150)
    return table
