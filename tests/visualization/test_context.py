"""What sheets show is read off the figure and compared with the model's own functions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_ctx.datasets.scenes import CLASSES
from mmseg_ctx.heads.base import ContextHead
from mmseg_ctx.hooks import EvaluatedClassifierHook
from mmseg_ctx.visualization.cac import CHANGES
from mmseg_ctx.visualization.context import draw_context, read_context
from tests.small_models import FCN, HEADS, build_segmentor

HEIGHT, WIDTH = 40, 64


def make_item(with_label=True):
    sample = SegDataSample(
        metainfo=dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH), img_path='scene.png')
    )
    generator = torch.Generator().manual_seed(1)
    if with_label:
        label = torch.randint(0, 4, (1, HEIGHT // 8, WIDTH // 8), generator=generator)
        label = label.repeat_interleave(8, 1).repeat_interleave(8, 2)
        label[:, :3] = 255
        sample.gt_sem_seg = PixelData(data=label)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    return dict(inputs=image, data_samples=sample)


def draw(segmentor, item):
    return draw_context(segmentor, item, segmentor.dataset_meta)


def all_axes(figure):
    """The axes of a figure, by title; one without a title is left out."""
    found = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    return {title.splitlines()[0]: axes for title, axes in found.items()}


def shown(axes):
    """The numbers of the uppermost picture of axes."""
    return np.asarray(axes.images[-1].get_array())


def features(segmentor, item):
    """What the decode head reads."""
    return segmentor.extract_feat(inputs_of(segmentor, item)[0])


@pytest.mark.parametrize(
    ('head', 'with_label'), [*((head, True) for head in HEADS), ('CAC', False), ('ACNet', False)]
)
def test_sheet(head, with_label):
    """It shows image, prediction and label, from one forward pass, and names all their classes."""
    segmentor, passes = build_segmentor(head), []
    item = make_item(with_label)
    segmentor.backbone.register_forward_hook(lambda *_: passes.append(1))
    figure = draw(segmentor, item)
    assert passes == [1]
    axes = all_axes(figure)
    image = item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
    np.testing.assert_array_equal(shown(axes['image']), image)
    (result,) = segmentor.test_step(
        dict(inputs=[item['inputs']], data_samples=[make_item()['data_samples']])
    )
    prediction = result.pred_sem_seg.data[0].numpy()
    palette = np.array(segmentor.dataset_meta['palette'])
    np.testing.assert_array_equal(shown(axes['prediction']), palette[prediction])
    assert ('ground truth' in axes) == with_label
    if with_label:
        label = item['data_samples'].gt_sem_seg.data[0].numpy()
        colours = np.vstack([palette, np.full((256 - len(palette), 3), 255)])
        np.testing.assert_array_equal(shown(axes['ground truth']), colours[label])
    assert segmentor.test_cfg == dict(mode='whole')
    # The legend has the colour and name of every class that a picture shows.
    names = dict(zip(map(tuple, palette.tolist()), CLASSES, strict=True))
    names[255, 255, 255] = 'ignored'
    labels = 'prior', 'refined', 'oracle', 'ground truth', 'prediction'
    drawn = [shown(axes[title]) for title in axes if title.split(',')[0] in labels]
    assert len(drawn) == 1 + with_label + ('CAC' in head) * (2 + with_label)
    (legend,) = figure.legends
    colours = [255 * np.array(patch.get_facecolor()[:3]) for patch in legend.get_patches()]
    colours = [tuple(np.rint(colour).astype(int).tolist()) for colour in colours]
    assert {tuple(each) for part in drawn for each in part.reshape(-1, 3).tolist()} == {*colours}
    assert [names[colour] for colour in colours] == [t.get_text() for t in legend.get_texts()]


def attention_of(segmentor, item):
    """The attention at every place (Eq. 6), from the layers of spatial context, and P_p."""
    head = segmentor.decode_head
    records = {}
    for name in ('query', 'key'):
        layer = getattr(head.spatial_context, name)
        layer.register_forward_hook(lambda _, __, out, name=name: records.update({name: out}))
    with torch.no_grad():
        _, probabilities = head.forward_context(features(segmentor, item))
    energy = torch.einsum('chw,cn->nhw', records['query'][0], records['key'][0, ..., 0]) / 4**0.5
    return energy.softmax(dim=0), probabilities


def predicted_by(classifier, segmentor, item):
    """Return what a segmentor predicts with another classifier of its head."""
    hook = EvaluatedClassifierHook('oracle')
    hook.classifier = classifier
    runner = SimpleNamespace(model=segmentor)
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples'].clone()])
    hook.before_test_iter(runner, 0, data)
    (result,) = segmentor.test_step(data)
    hook.after_test_iter(runner, 0)
    return result


def test_context_aware_classifier():
    segmentor, item = build_segmentor('CAC'), make_item()
    axes = all_axes(draw(segmentor, item))
    head = segmentor.decode_head
    palette = np.array(segmentor.dataset_meta['palette'])
    label = item['data_samples'].gt_sem_seg.data[0].numpy()
    predictions = {}
    for classifier in ('prior', 'oracle', 'refined'):
        result = predicted_by(classifier, segmentor, item)
        predictions[classifier] = result.pred_sem_seg.data[0].numpy()
        right = (predictions[classifier] == label)[label != 255].mean()
        picture = shown(axes[f'{classifier}, {right:.1%} right'])
        np.testing.assert_array_equal(picture, palette[predictions[classifier]])
    before, after = predictions['prior'], predictions['refined']
    assert not np.array_equal(predictions['oracle'], predictions['refined'])
    kinds = np.where(before == after, 0, np.where(after == label, 2, 1 + 2 * (before == label)))
    np.testing.assert_array_equal(shown(axes['prior → refined']), CHANGES[kinds])
    # The weights: what the projector makes of the prototypes of the prior's probabilities.
    seen = []
    head.estimate_projector.register_forward_hook(lambda *record: seen.append(record[2][0]))
    head(features(segmentor, item))
    original = head.conv_seg.weight.flatten(1)
    moves = 1 - torch.cosine_similarity(seen[0], original, dim=1)
    bars = axes['how far each class’s weights moved']
    classes = {index for each in predictions.values() for index in each.ravel().tolist()}
    classes |= set(range(4))
    expected = sorted((moves[index].item() for index in classes), reverse=True)[:12]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(expected, abs=1e-5)
    # Dots for the pixels that have a class, a circle and a star for each class.
    pixels, circles, stars = axes['features and weights in two dimensions (t-SNE)'].collections
    assert len(circles.get_offsets()) == len(stars.get_offsets()) == len(classes)
    assert len(pixels.get_offsets()) == (label[::8, ::8] != 255).sum()


class ToyHead(ContextHead):
    """A head as a sixth method would have it, without a sheet of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reduce = ConvModule(self.in_channels, self.channels, 1, **self.layers)

    def forward(self, inputs):
        x = self.reduce(self._transform_inputs(inputs))
        self.show(features=x, mask=x.mean(dim=1, keepdim=True).sigmoid(), classes=x.mean((2, 3)))
        return self.cls_seg(x)


@torch.no_grad()
@pytest.mark.parametrize('kind', [ToyHead, 'FCNHead'])
def test_a_head_without_a_sheet_of_its_own(kind):
    """It has a plain one: confidence, and of what it shows the maps."""
    segmentor, item = build_segmentor(dict(FCN, type=kind)), make_item()
    head, maps = segmentor.decode_head, []
    if kind is ToyHead:
        head.reduce.register_forward_hook(lambda _, __, output: maps.append(output[0]))
    axes = all_axes(draw(segmentor, item))
    probabilities = segmentor.encode_decode(*inputs_of(segmentor, item)).softmax(dim=1)
    np.testing.assert_allclose(shown(axes['confidence']), probabilities.amax(1)[0], atol=1e-6)
    assert set(axes) - {'image', 'ground truth', 'prediction', 'confidence'} == (
        {'features', 'mask'} if maps else set()
    )
    if maps:
        mean = maps[0].mean(dim=0)
        np.testing.assert_allclose(shown(axes['features']), mean, atol=1e-6)
        np.testing.assert_allclose(shown(axes['mask']), mean.sigmoid(), atol=1e-6)


def inputs_of(segmentor, item):
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples'].clone()])
    data = segmentor.data_preprocessor(data, False)
    return data['inputs'], [sample.metainfo for sample in data['data_samples']]


def test_names_of_other_classes():
    segmentor, item = build_segmentor('DMNet'), make_item()
    meta = dict(classes=('sky', 'sand'), palette=[[0, 0, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match='the model predicts 14 classes, but only 2 have names'):
        read_context(segmentor, item, meta)
