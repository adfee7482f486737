"""Counts against sums made by hand and against the papers' figures."""

import pytest
import torch
from torch import nn

from mmseg_ctx.analysis.complexity import Complexity, count, papers_table
from mmseg_ctx.ops import dynamic_depthwise_conv2d
from mmseg_ctx.utils.methods import METHODS

MILLION, BILLION = 1e6, 1e9


class _DynamicDepthwise(nn.Module):
    """Kernels made from the input, as several heads have them."""

    def __init__(self):
        super().__init__()
        self.make = nn.Conv2d(6, 6, 1, bias=False)

    def forward(self, x):
        kernels = self.make(nn.functional.adaptive_avg_pool2d(x, 3))
        return dynamic_depthwise_conv2d(x, kernels, dilation=2)


@pytest.mark.parametrize('place', ['meta', 'cpu'])
def test_dynamic_depthwise_convolution_is_counted(place):
    module = _DynamicDepthwise().to(place)
    make_kernels = 2 * 6 * 6 * (3 * 3)  # images, channels out and in, grid of regions
    convolve = 2 * 6 * (5 * 7) * (3 * 3)  # images, channels, positions, taps
    cost = count(module, torch.rand(2, 6, 5, 7, device=place))
    assert cost == Complexity(36, make_kernels + convolve)
    assert module.training


@pytest.fixture(scope='module')
def papers():
    # The large models differ in nothing but depth and width, and take long to trace.
    large = ('ResNet-101', 'HRNet-W48', 'Swin-B', 'Swin-L')
    table = papers_table(
        lambda row: 'backbone' in row or not any(each in row['model'] for each in large)
    )
    return {(row['source'], row['model']): row for row in table.rows}


@pytest.mark.slow
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
    row = papers[source, model]
    assert row['parameters'] <= parameters * MILLION
    assert row['multiply_adds'] <= multiply_adds * BILLION


@pytest.mark.slow
@pytest.mark.parametrize(
    ('source', 'model'),
    [
        ('CaC-Net, Table 7', 'APCHead, without fusion'),
        ('DMNet, Table 3', 'Inception: regular filters 1, 3, 5, 7'),
        ('DMNet, Table 3', 'ASPP: regular filters, dilations 6, 12, 24, 36'),
        ('CTNet, Table 3', 'PSPHead'),
    ],
)
def test_baselines_agree_with_the_papers(papers, source, model):
    """What is counted is what the paper counted, to the digits that it gives."""
    row = papers[source, model]
    for key in ('parameters', 'multiply_adds'):
        assert row[key] == pytest.approx(row[f'paper_{key}'], rel=0.06)


@pytest.mark.slow
def test_models_with_and_without_cac_have_the_parameters_of_its_table(papers):
    rows = {model: row for (source, model), row in papers.items() if source == 'CAC, Table 1'}
    assert len(rows) == 12
    for row in rows.values():
        assert row['parameters'] == pytest.approx(row['paper_parameters'], abs=0.01 * MILLION)
    for model in [model for model in rows if 'with CAC' not in model]:
        wrapped = rows[f'{model}, with CAC']
        assert wrapped['parameters'] - rows[model]['parameters'] <= 0.8 * MILLION


@pytest.mark.slow
def test_every_method_has_a_table(papers):
    assert {source for source, _ in papers} == {
        table['table'] for method in METHODS.values() for table in method.costs
    }
    assert all(row['multiply_adds'] > 0 and row['counted'] for row in papers.values())
