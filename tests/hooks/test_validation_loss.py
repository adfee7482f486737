"""The losses on validation images: their values, where they go, and what they leave as it is."""

import json

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import Runner
from mmseg.registry import MODELS

import mmseg_ctx.hooks.validation_loss
from tests.helpers import data_samples, run_processes
from tests.small_models import FCN, SmallBackbone, model_config, scenes_loader, with_cac

pytestmark = pytest.mark.usefixtures('quick_runs')
HOOK = dict(validation_loss=dict(type='ValidationLossHook'))
PSP = dict(FCN, type='PSPHead', pool_scales=(1, 2))
AUXILIARY = dict(FCN, in_channels=8, in_index=1, dropout_ratio=0.5)
OHEM = dict(PSP, sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50))
# As DDRNet, which has two maps for its losses in training mode, and otherwise one.
DDR = dict(FCN, type='DDRHead', loss_decode=[dict(type='OhemCrossEntropy', min_kept=50)] * 2)


@MODELS.register_module(force=True)
class TwoMaps(SmallBackbone):
    def forward(self, image):
        maps = super().forward(image)[1:]
        return maps if self.training else maps[1]


def model(head, auxiliary_head=None, **changes):
    config = dict(model_config(head), **changes)
    config['type'] = f'MemoryEfficient{config["type"]}'
    config['data_preprocessor'] = dict(config['data_preprocessor'], size_divisor=1)
    if head is DDR:
        config['backbone'] = dict(type='TwoMaps')
    return dict(config, auxiliary_head=auxiliary_head) if auxiliary_head else config


def runner(head, folder, hooks=HOOK, num_images=3, save_best=None, **changes):
    """Return a runner that trains a model for four iterations and validates twice."""
    config = dict(
        model=model(head, **changes),
        work_dir=str(folder),
        train_dataloader=dict(
            scenes_loader(4),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
        ),
        val_dataloader=dict(scenes_loader(num_images), batch_size=2, num_workers=0),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='IoUMetric'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4, save_best=save_best),
            **hooks,
        ),
        randomness=dict(seed=0),
        default_scope='mmseg',
        experiment_name=folder.name,
        log_level='ERROR',
        visualizer=dict(
            type='SegLocalVisualizer',
            vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
            name=str(folder),
        ),
    )
    return Runner.from_cfg(config)


@pytest.mark.parametrize(
    ('head', 'auxiliary', 'names'),
    [
        (PSP, None, ['decode.loss_ce']),
        (OHEM, AUXILIARY, ['decode.loss_ce', 'aux.loss_ce']),
        (
            with_cac(PSP),
            AUXILIARY,
            ['decode.loss_ce', 'decode.loss_prior_ce', 'decode.loss_oracle_ce', 'decode.loss_kl'],
        ),
        pytest.param(
            [FCN, dict(FCN, type='OCRHead', ocr_channels=4)],
            None,
            ['decode_0.loss_ce', 'decode_1.loss_ce'],
            marks=pytest.mark.slow,
        ),
        (DDR, None, ['decode.loss_context', 'decode.loss_spatial']),
    ],
    ids=['PSP', 'OHEM and auxiliary head', 'CAC', 'cascade', 'two maps in training'],
)
def test_a_run_with_the_hook_is_the_run_without(head, auxiliary, names, tmp_path):
    if isinstance(head, list):
        head = [dict(each) for each in head]
    runs = {}
    for name, hooks, best in (('with', HOOK, 'val_loss'), ('without', {}, None)):
        runs[name] = run = runner(
            head, tmp_path / name, hooks, save_best=best, auxiliary_head=auxiliary
        )
        run.train()
    states = [run.model.state_dict() for run in runs.values()]
    assert all(torch.equal(*pair) for pair in zip(*(s.values() for s in states), strict=True))
    [scalars] = (tmp_path / 'with').glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in scalars.read_text().splitlines()]
    validations = [entry for entry in entries if 'mIoU' in entry]
    assert len(validations) == 2
    for entry in validations:
        assert all(entry[f'val_{name}'] > 0 for name in names)
        parts = [
            value for name, value in entry.items() if name.startswith('val_') and '.loss' in name
        ]
        assert entry['val_loss'] == pytest.approx(sum(parts), rel=1e-5)
    assert list((tmp_path / 'with').glob('best_val_loss_iter_*.pth'))
    assert list((tmp_path / 'with').glob('*/vis_data/events.out.tfevents*'))


def test_values_are_those_of_full_size_logits(tmp_path):
    run = runner(PSP, tmp_path)
    metrics = run.val()
    run.model.eval()
    losses = []
    for batch in run.val_dataloader:
        data = run.model.data_preprocessor(batch, False)
        logits = run.model(data['inputs'])
        for each, sample in zip(logits, data['data_samples'], strict=True):
            label = sample.gt_sem_seg.data
            full = F.interpolate(each[None], label.shape[1:], mode='bilinear')
            pixels = F.cross_entropy(full, label.long(), ignore_index=255, reduction='none')
            losses.append(pixels.mean().item())
    assert len(losses) == 3
    assert metrics['val_loss'] == pytest.approx(sum(losses) / 3, rel=1e-5)


def run_one_process(rank, folder):
    return runner(with_cac(PSP), folder / 'two', num_images=5).val()


def test_two_processes_count_each_image_once(tmp_path):
    expected = runner(with_cac(PSP), tmp_path / 'one', num_images=5).val()
    for metrics in run_processes(run_one_process, tmp_path, folder=tmp_path):
        assert metrics == pytest.approx(expected, rel=1e-5)


def test_padding_of_the_input_is_no_labelled_pixel():
    config = model(PSP)
    config['data_preprocessor'].update(test_cfg=dict(size_divisor=32), seg_pad_val=200)
    segmentor = MODELS.build(config)
    [sample] = data_samples(torch.randint(14, (1, 80, 120)))  # twice the size of the image
    sample.set_metainfo(dict(img_shape=(40, 60)))
    batch = dict(inputs=[torch.zeros(3, 40, 60)], data_samples=[sample])
    [padded] = segmentor.data_preprocessor(batch, False)['data_samples']
    label = mmseg_ctx.hooks.validation_loss._labelled(padded, segmentor).gt_sem_seg.data[0]
    assert label.shape == (128, 128)
    assert torch.equal(label[:80, :120], sample.gt_sem_seg.data[0])
    assert (label[80:] == 200).all()
    assert (label[:, 120:] == 200).all()
