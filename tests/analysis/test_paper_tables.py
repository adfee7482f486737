"""The budgets of the papers' tables, and what every table says."""

import pytest

from mmseg_ctx.analysis.complexity import heads_table, papers_table
from mmseg_ctx.analysis.models import COMPARED

MILLION, BILLION = 1e6, 1e9


@pytest.fixture(scope='module')
def papers():
    # The large models differ in nothing but depth and width, and take long to trace.
    large = ('ResNet-101', 'HRNet-W48', 'Swin-B', 'Swin-L')
    return papers_table(lambda row: 'backbone' in row or not any(x in row['model'] for x in large))


def _row(table, source, model):
    (row,) = [
        row for row in table.rows if row['source'].startswith(source) and row['model'] == model
    ]
    return row


@pytest.mark.parametrize(
    ('source', 'model', 'parameters', 'multiply_adds'),
    [
        ('CaC-Net, Table 7', 'ContextAdaptiveConvHead', 5.6, 22),
        ('DMNet, Table 3', 'DynamicMultiScaleHead, with fusion', 9.5, 22),
        ('CTNet, Table 3', 'ContextTandemHead', 7.2, 30),
        ('CTNet, Table 3', 'ContextTandemHead, spatial only (OSCM)', 7.2, 30),
    ],
)
def test_heads_are_within_their_budgets(papers, source, model, parameters, multiply_adds):
    row = _row(papers, source, model)
    assert row['parameters'] <= parameters * MILLION
    assert row['multiply_adds'] <= multiply_adds * BILLION


@pytest.mark.parametrize(
    ('source', 'model'),
    [
        ('CaC-Net', 'APCHead, without fusion'),
        ('DMNet', 'Inception: regular filters 1, 3, 5, 7'),
        ('DMNet', 'ASPP: regular filters, dilations 6, 12, 24, 36'),
        ('CTNet', 'PSPHead'),
    ],
)
def test_baselines_agree_with_the_papers(papers, source, model):
    """What is counted is what the paper counted, to the digits that it gives."""
    row = _row(papers, source, model)
    for key in ('parameters', 'multiply_adds'):
        assert row[key] == pytest.approx(row[f'paper_{key}'], rel=0.06)


def test_models_with_and_without_cac_have_the_parameters_of_its_table(papers):
    rows = [row for row in papers.rows if row['source'].startswith('CAC')]
    assert len(rows) == 12
    for row in rows:
        assert row['parameters'] == pytest.approx(row['paper_parameters'], abs=0.01 * MILLION)
    for without, with_ in zip(rows[::2], rows[1::2], strict=True):
        assert with_['model'] == f'{without["model"]}, with CAC'
        assert with_['parameters'] - without['parameters'] <= 0.8 * MILLION


def test_every_row_has_its_counts(papers):
    assert all(row['multiply_adds'] > 0 and row['counted'] for row in papers.rows)
    assert {row['source'].split(',')[0] for row in papers.rows} == {
        'CaC-Net',
        'DMNet',
        'CTNet',
        'CAC',
        'ACNet (no figure)',
    }


def test_heads_are_counted_on_the_same_features():
    table = heads_table()
    assert [row['model'] for row in table.rows] == list(COMPARED)
    costs = {row['model']: row for row in table.rows}
    ours, theirs = costs['DynamicMultiScaleHead'], costs['DMHead']
    assert ours['parameters'] == theirs['parameters']
    assert ours['multiply_adds'] == theirs['multiply_adds']
