"""DMNet against MMSegmentation's ``DMHead``, and what ``DMHead`` does not have."""

import pytest
import torch
from mmseg.models.decode_heads import DMHead

from mmseg_ctx.heads import DynamicMultiScaleHead
from tests.small_models import randomize

SMALL = dict(in_channels=12, channels=8, num_classes=5, norm_cfg=dict(type='BN'))


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('fusion', [False, True])
@pytest.mark.parametrize(
    ('filter_sizes', 'norm_cfg'), [((1, 3, 5, 7), dict(type='BN')), ((2, 4), None)]
)
def test_equals_dm_head(filter_sizes, norm_cfg, fusion, training):
    arguments = dict(
        SMALL, filter_sizes=filter_sizes, fusion=fusion, norm_cfg=norm_cfg, dropout_ratio=0
    )
    theirs = randomize(DMHead(**arguments)).train(training)
    ours = DynamicMultiScaleHead(**arguments).train(training)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    feature = torch.randn(2, 12, 9, 11)
    gradient = torch.randn(2, 5, 9, 11)
    results = []
    for head in (theirs, ours):
        x = feature.clone().requires_grad_()
        out = head([x])
        out.backward(gradient)
        grads = {name: parameter.grad for name, parameter in head.named_parameters()}
        results.append((out.detach(), x.grad, grads))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_filters_do_not_depend_on_the_image_unless_dynamic():
    for filter_type in ('depthwise', 'regular'):
        head = randomize(DynamicMultiScaleHead(**SMALL, filter_type=filter_type)).eval()
        x = torch.randn(1, 12, 24, 24)
        far = x.clone()
        far[..., -1, -1] += 100
        # 7 is the largest filter and the bottleneck's is 3: nothing reaches across the map.
        torch.testing.assert_close(head([far])[..., :12, :12], head([x])[..., :12, :12])
    head = randomize(DynamicMultiScaleHead(**SMALL)).eval()
    assert (head([far]) - head([x]))[..., :12, :12].abs().max() > 1e-3


def test_context_of_another_stage_makes_the_filters():
    head = DynamicMultiScaleHead(
        **SMALL, in_index=1, context_index=0, context_channels=6, filter_sizes=(1, 3)
    )
    head = randomize(head).eval()
    context, x = torch.randn(2, 6, 20, 18), torch.randn(2, 12, 10, 9)
    out = head([context, x])
    assert out.shape == (2, 5, 10, 9)
    assert (head([context + 1, x]) - out).abs().max() > 1e-4
    # The filters read the context and nothing of x.
    filters = head.dcm_modules[1].generate_filters(context)
    expected = torch.nn.functional.adaptive_avg_pool2d(context, 3)
    expected = head.dcm_modules[1].filter_gen_conv(expected)
    torch.testing.assert_close(filters, expected)
