import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmseg_ctx.ops import check_labels, mask_ignored, resize_labels


@pytest.mark.parametrize('ignore_index', [255, 0, -100, None])
def test_accepts_classes_and_the_ignore_index(ignore_index):
    label = torch.tensor([[0, 1, 4]])
    if ignore_index is not None:
        label = torch.cat([label, torch.tensor([[ignore_index]])], dim=1)
    check_labels(label, 5, ignore_index)


@pytest.mark.parametrize('wrong', [5, -1, 254])
@pytest.mark.parametrize('ignore_index', [255, None])
def test_names_a_label_that_is_no_class(wrong, ignore_index):
    with pytest.raises(ValueError, match=rf'\[0, 5\).*{ignore_index}, got {wrong}$'):
        check_labels(torch.tensor([[0, wrong, 4]]), 5, ignore_index)


def test_an_accelerator_or_a_graph_asserts_without_waiting():
    with FakeTensorMode():
        # A fake tensor has no value that Python could read: reading one raises.
        check_labels(torch.zeros(2, 8, 8, dtype=torch.long, device='cuda'), 5, 255)
    check = torch.compile(
        lambda x: (check_labels(x, 5, 255), x + 1)[1], fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(check(torch.tensor([4, 255])), torch.tensor([5, 256]))
    with pytest.raises(RuntimeError, match='labels must be in'):
        check(torch.tensor([5, 255]))


def test_masks_only_what_is_ignored():
    label = torch.tensor([0, 7, 255])
    assert mask_ignored(label, 255).tolist() == [0, 7, -1]
    assert mask_ignored(label, 0).tolist() == [-1, 7, 255]
    assert mask_ignored(label, None).tolist() == [0, 7, 255]


@pytest.mark.parametrize('size', [(3, 7), (5, 5), (10, 13), (20, 30), (1, 1)])
def test_resizes_to_the_pixel_below(size, device):
    label = torch.randint(0, 256, (2, 10, 13))
    rows = torch.arange(size[0]) * 10 // size[0]
    columns = torch.arange(size[1]) * 13 // size[1]
    resized = resize_labels(label.to(device), size).cpu()
    assert resized.dtype == torch.int64
    assert torch.equal(resized, label[:, rows][:, :, columns])
