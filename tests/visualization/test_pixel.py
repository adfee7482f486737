"""What is said about a pixel, compared with the tensors of a forward pass of its own."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmengine.structures import PixelData

from mmseg_ctx.ops import dynamic_depthwise_conv2d
from mmseg_ctx.visualization.context import read_context
from mmseg_ctx.visualization.panels import draw_panels
from tests.small_models import HEADS, build_segmentor
from tests.visualization.test_context import attention_of, features, make_item, predicted_by

ROW, COLUMN = 21, 43
CELL = 2, 5  # of features at 1/8


def ask(segmentor, item):
    """Return what the last method says about the pixel, and the axes that it draws."""
    prediction, methods = read_context(segmentor, item, segmentor.dataset_meta)
    module, context = methods[-1]
    answer = module.at_pixel(context, prediction, (ROW, COLUMN))
    figure = Figure(layout='constrained')
    draw_panels(figure, answer.mosaic)
    return answer, [axes for axes in figure.axes if axes.images or axes.patches]


@pytest.mark.parametrize('head', HEADS)
def test_each_method_draws_and_describes_a_pixel(head):
    segmentor, item = build_segmentor(head), make_item()
    prediction, methods = read_context(segmentor, item, segmentor.dataset_meta)
    assert len(methods) == (2 if head == 'CAC on DMNet' else 1)
    for module, context in methods:
        for place in ((0, 0), (39, 63)):
            sentence, columns, rows, mosaic = module.at_pixel(context, prediction, place)
            assert sentence.endswith('.')
            assert rows
            assert {len(each) for each in rows} == {len(columns)}
            figure = Figure(layout='constrained')
            draw_panels(figure, mosaic)
            assert figure.axes


def test_the_gates_at_a_pixel():
    segmentor, item = build_segmentor('ACNet'), make_item()
    answer, axes = ask(segmentor, item)
    head, gates = segmentor.decode_head, []
    for part in (*(block.global_context for block in head.blocks), head.global_context):
        part.register_forward_hook(lambda _, __, output: gates.append(output[1][0, 0]))
    with torch.no_grad():
        head(features(segmentor, item))
    expected = [gate[ROW * len(gate) // 40, COLUMN * gate.size(1) // 64].item() for gate in gates]
    rows = answer.rows
    assert [row[0] for row in rows] == ['block 1 at 1/8', 'block 2 at 1/8', 'block 3 at 1/4']
    assert [row[1] for row in rows] == pytest.approx(expected)
    # The first finer stage has the coarse one's size.
    assert rows[0][2] == pytest.approx(1 - expected[0])
    assert 0 <= rows[1][2] < 1
    assert rows[2][2] is None
    for each, gate in zip(axes, gates, strict=True):
        np.testing.assert_allclose(each.images[-1].get_array(), gate, atol=1e-6)
        for line in each.lines:
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (COLUMN, ROW)


def test_the_weights_at_a_pixel():
    segmentor, item = build_segmentor('CaC-Net'), make_item()
    answer, axes = ask(segmentor, item)
    head = segmentor.decode_head
    with torch.no_grad():
        x = head.reductions[0](head._transform_inputs(features(segmentor, item)))
        kernels = head.context_convs[0].predict_kernels(x)
        weights = sum(dynamic_depthwise_conv2d(x, kernels, d).sigmoid() for d in (1, 3))[0]
    values = weights[:, CELL[0], CELL[1]].tolist()
    order = sorted(range(8), key=lambda channel: -values[channel])
    rows = answer.rows
    assert [row[:3] for row in rows] == [
        *([1, 'most', channel] for channel in order[:2]),
        *([1, 'least', channel] for channel in order[::-1][:2]),
    ]
    assert [row[3] for row in rows] == pytest.approx([values[row[2]] for row in rows], abs=1e-5)
    channels = order[:2] + order[::-1][:2]
    for above, below, channel in zip(axes[:4], axes[4:], channels, strict=True):
        assert above.get_title() == f'channel {channel}\nW = {values[channel]:.2f}'
        np.testing.assert_allclose(above.images[0].get_array(), weights[channel], atol=1e-5)
        np.testing.assert_allclose(below.images[0].get_array(), kernels[0, channel], atol=1e-6)


@pytest.mark.parametrize('fusion', [False, True])
def test_the_scales_at_a_pixel(fusion):
    segmentor, item = build_segmentor('DMNet', fusion=fusion), make_item()
    answer, axes = ask(segmentor, item)
    x = features(segmentor, item)[2]
    responses, filters = [], []
    for branch in segmentor.decode_head.dcm_modules:
        with torch.no_grad():
            filters.append(branch.generate_filters(x))
            filtered = dynamic_depthwise_conv2d(branch.input_redu_conv(x), filters[-1])
            response = branch.activate(branch.norm(filtered))
            responses.append(response[0, :, CELL[0], CELL[1]])
    means = [response.mean().item() for response in responses]
    rows = answer.rows
    assert [row[0] for row in rows] == ['2×2', '5×5']
    assert [row[1] for row in rows] == pytest.approx(means, abs=1e-5)
    largest = int(np.argmax(means))
    assert answer.sentence.startswith(f'The {rows[largest][0]} filters respond most here')
    channels = responses[largest].argsort(descending=True)[:4].tolist()
    for each, channel in zip(axes[2:], channels, strict=True):
        response = responses[largest][channel]
        assert each.get_title() == f'channel {channel}:\n{response:.2f}'
        expected = filters[largest][0, channel]
        np.testing.assert_allclose(each.images[0].get_array(), expected, atol=1e-5)


def test_the_attention_of_a_pixel():
    segmentor, item = build_segmentor('CTNet'), make_item()
    answer, axes = ask(segmentor, item)
    attention, probabilities = attention_of(segmentor, item)
    attention = attention[:, CELL[0], CELL[1]].tolist()
    names = segmentor.dataset_meta['classes']
    rows = {row[0]: row[1:] for row in answer.rows}
    assert set(rows) == set(names)
    for index, name in enumerate(names):
        assert rows[name] == pytest.approx([attention[index], probabilities[0, index].item()])
    most = names[int(np.argmax(attention))]
    assert f'attends most to {most}: {max(attention):.1%}' in answer.sentence
    assert [each.get_title() for each in axes] == ['attention of this pixel', 'class probabilities']


@pytest.mark.parametrize('with_label', [True, False])
@pytest.mark.parametrize('size_divisor', [1, 48])
def test_the_logits_of_the_classifiers_at_a_pixel(size_divisor, with_label):
    segmentor = build_segmentor('CAC', dict(test_cfg=dict(size_divisor=size_divisor)))
    item = make_item()
    sample = item['data_samples']
    # As if the pipeline had resized an image of 30×48 to 40×64, and left the label alone.
    sample.set_metainfo(dict(ori_shape=(30, 48)))
    label = sample.gt_sem_seg.data[:, :30, :48].contiguous()
    sample.gt_sem_seg = PixelData(data=label)
    asked = sample.clone()
    if not with_label:
        del sample.gt_sem_seg
    answer, axes = ask(segmentor, item)
    names = ['prior', 'refined', 'oracle'][: 2 + with_label]
    assert [each.get_title() for each in axes] == [*names, 'weights moved']
    logits = {}
    for name in names:
        result = predicted_by(name, segmentor, dict(item, data_samples=asked))
        logits[name] = result.seg_logits.data[:, ROW, COLUMN]
    seen = []
    head = segmentor.decode_head
    head.estimate_projector.register_forward_hook(lambda *record: seen.append(record[2][0]))
    head(features(segmentor, item))
    moves = 1 - torch.cosine_similarity(seen[0], head.conv_seg.weight.flatten(1), dim=1)
    classes = segmentor.dataset_meta['classes']
    farthest = classes[moves.argmax()]
    assert (
        f'the weights of {farthest} moved most: 1 − cosine = {moves.max():.3f}' in answer.sentence
    )
    assert answer.columns == ('class', *(f'logit by {name}' for name in names), 'its weights moved')
    assert len(answer.rows) == 14
    for name, *numbers, moved in answer.rows:
        index = classes.index(name)
        expected = [logits[each][index].item() for each in names]
        assert numbers == pytest.approx(expected, abs=1e-4, rel=1e-4)
        assert moved == pytest.approx(moves[index].item(), abs=1e-5)
