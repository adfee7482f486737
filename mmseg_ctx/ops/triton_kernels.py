"""Losses, their gradient and labels of resized logits in one kernel each, for GPUs.

Each of these reads the small logits and mixes them bilinearly in registers, so no logits of the
label's size exist. It reads logits of any strides. Two more kernels compute the weights of CaC-Net
and their gradients. All compute in float32, from float16, bfloat16 or float32. Offsets into tensors
have 64 bits. Nothing is added atomically: results are the same in every run.

This module imports Triton. :func:`mmseg_ctx.ops.kernel_choice.triton_kernels_for` imports this
module where Triton works. ``docs/gpu.md`` counts what the kernels read, write and compute.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

# A program of the first and third kernel computes a tile of pixels, one a thread. Eight columns
# of floats fill a sector of memory.
TILE_ROWS, TILE_COLUMNS = 4, 32
# A program of the second kernel is one warp. It computes up to so many classes, four a thread
# that share what is read for each pixel, and of few classes several columns of cells.
MOST_CLASSES, WARP = 128, 32
# It computes up to so many rows of cells, since it computes the pixels above the first one for one
# row alone. A GPU is full with so many programs.
MOST_ROWS, FULL_GRID = 16, 8192
# Labels: a thread keeps the offsets and weights of few logits; several threads share more.
FEW_TAPS, MOST_TAPS = 16, 64
# Pixels of a map that a program of the kernels for CaC-Net's weights computes at a time.
MAP_PIXELS = 512

LOWEST = tl.constexpr(torch.finfo(torch.float32).min / 2)
LARGEST = tl.constexpr(torch.finfo(torch.float32).max / 2)

_SIZES = ('classes', 'height', 'width', 'label_height', 'label_width')
_STRIDES = ('image_stride', 'class_stride', 'row_stride', 'column_stride')
_SIDES = ('row_step', 'row_offset', 'row_divisor', 'column_step', 'column_offset', 'column_divisor')
# Triton would compile a kernel anew for sizes that are 1 or multiples of 16.
_PLAIN = (*_SIZES, *_STRIDES, *_SIDES)


@triton.jit
def _sources(target, step, offset, divisor, size):
    """Return the lower and upper source of targets, and the share of the upper.

    The position of a target is the fraction ``(target * step + offset) / divisor``, at least 0, so
    that its integer part is exact.
    """
    above = tl.maximum(target.to(tl.int64) * step + offset, 0)
    lower = above // divisor
    share = (above - lower * divisor).to(tl.float32) / divisor
    return lower, tl.minimum(lower + 1, size - 1), share


@triton.jit
def _first_target(source, step, offset, divisor, targets):
    """Return the first target whose lower source is ``source`` or a later one."""
    least = tl.cast(source, tl.int64) * divisor - offset
    # With a step of 0 every target reads source 0.
    first = tl.where(step > 0, (least + step - 1) // tl.maximum(step, 1), targets)
    return tl.where(source > 0, tl.maximum(tl.minimum(first, targets), 0), 0).to(tl.int32)


@triton.jit
def _remainder(target, source, step, offset, divisor):
    """Return the numerator of a target's position relative to its lower source."""
    above = tl.cast(target, tl.int64) * step + offset
    return (above - tl.cast(source, tl.int64) * divisor).to(tl.int32)


@triton.jit
def _pixels(label_height, label_width, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr):
    """Return rows and columns ``[P]`` of this program's pixels, and which are in the label."""
    pixel = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    row = tl.program_id(1) * TILE_ROWS + pixel // TILE_COLUMNS
    column = tl.program_id(0) * TILE_COLUMNS + pixel % TILE_COLUMNS
    inside = (row < label_height) & (column < label_width)
    return tl.minimum(row, label_height - 1), tl.minimum(column, label_width - 1), inside


@triton.jit
def _finite_below(value):
    """Make minus infinity a large negative number, since infinity times 0 is NaN; keep NaN."""
    value = value.to(tl.float32)
    return tl.where(value < LOWEST, LOWEST, value)


@triton.jit
def _add_exponential(maximum, total, value):
    """Add a value to the running sum of exponentials, which is relative to the maximum."""
    difference = value - maximum
    smaller = tl.exp(-tl.abs(difference))
    total = tl.where(difference > 0, total * smaller + 1, total + smaller)
    return tl.maximum(maximum, value), total


@triton.jit(do_not_specialize=_PLAIN)
def _losses_kernel(
    logits, label, losses, log_normaliser, best,
    classes, height, width, label_height, label_width,
    image_stride, class_stride, row_stride, column_stride,
    row_step, row_offset, row_divisor, column_step, column_offset, column_divisor,
    TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute each pixel's loss, log-normaliser and best class by an online softmax."""
    image = tl.program_id(2).to(tl.int64)
    row, column, inside = _pixels(label_height, label_width, TILE_ROWS, TILE_COLUMNS)
    top, bottom, down = _sources(row, row_step, row_offset, row_divisor, height)
    left, right, along = _sources(column, column_step, column_offset, column_divisor, width)
    corner = tl.arange(0, 4)[:, None]  # the four neighbours, [4, P]
    offset = tl.where(corner < 2, top[None], bottom[None]) * row_stride
    offset += tl.where(corner % 2 == 0, left[None], right[None]) * column_stride
    weight = tl.where(corner < 2, 1 - down[None], down[None])
    weight *= tl.where(corner % 2 == 0, 1 - along[None], along[None])
    source = logits + image * image_stride + offset
    at = (image * label_height + row) * label_width + column  # [P]
    target_class = tl.load(label + at).to(tl.int32)
    maximum = tl.full((TILE_ROWS * TILE_COLUMNS,), -float('inf'), tl.float32)
    total = tl.zeros_like(maximum)
    target = tl.zeros_like(maximum)
    best_class = tl.zeros_like(target_class)
    for index in range(classes):
        value = tl.sum(_finite_below(tl.load(source)) * weight, 0)  # [P]
        best_class = tl.where(value > maximum, index, best_class)
        target = tl.where(target_class == index, value, target)
        maximum, total = _add_exponential(maximum, total, value)
        source += class_stride
    normaliser = maximum + tl.log(total)
    tl.store(losses + at, tl.where(target_class >= 0, normaliser - target, 0.0), inside)
    tl.store(log_normaliser + at, normaliser, inside)
    tl.store(best + at, best_class, inside)


@triton.jit
def _row_gradient(
    lower, upper, index, first, end, remainder, step, scale, of_lower: tl.constexpr, lonely,
    grad, grad_stride, label, log_normaliser,
):  # fmt: skip
    """Return what a row of pixels adds to the gradient ``[X, N]`` of cells.

    ``lower`` and ``upper`` are the logits left and right of the pixels ``first`` to ``end - 1``.
    The gradient is of the left cell if ``of_lower``, otherwise of the right one. A ``lonely`` cell
    is the last, and has the weights of both. ``remainder`` is the numerator of the first pixel's
    share of the right cell.
    """
    total = tl.zeros_like(lower)
    for distance in range(tl.max(end - first)):
        pixel = first + distance  # [X, 1]
        inside = pixel < end
        share = tl.maximum(remainder + distance * step, 0).to(tl.float32) * scale
        target_class = tl.load(label + pixel, inside, -1).to(tl.int32)
        normaliser = tl.load(log_normaliser + pixel, inside, float('inf'))
        weight = tl.load(grad + tl.cast(pixel, tl.int64) * grad_stride, inside, 0.0)
        weight *= tl.where(lonely, 1.0, 1 - share) if of_lower else share
        weight = tl.where(target_class >= 0, weight, 0.0)
        probability = tl.exp(lower * (1 - share) + upper * share - normaliser)
        total += weight * (probability - tl.where(index == target_class, 1.0, 0.0))
    return total


@triton.jit(
    do_not_specialize=(*_PLAIN, 'grad_image', 'grad_row', 'grad_column', 'first_class', 'rows')
)
def _gradient_kernel(
    grad, logits, label, log_normaliser, gradient,
    classes, height, width, label_height, label_width,
    image_stride, class_stride, row_stride, column_stride,
    row_step, row_offset, row_divisor, column_step, column_offset, column_divisor,
    grad_image, grad_row, grad_column, first_class, rows,
    CELLS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Sum, for some rows of cells and some classes, the gradients of the pixels that read them.

    The pixels that read a cell lie between its neighbours. From top to bottom, each row of pixels
    is computed once for the cells above and below it.
    """
    image = tl.program_id(2).to(tl.int64)
    blocks = (width + CELLS - 1) // CELLS
    x = tl.program_id(0) % blocks * CELLS + tl.arange(0, CELLS)[:, None]  # [X, 1]
    index = first_class + tl.program_id(0) // blocks * CLASSES + tl.arange(0, CLASSES)[None, :]
    valid = (index < classes) & (x < width)
    before = _first_target(x - 1, column_step, column_offset, column_divisor, label_width)
    here = _first_target(x, column_step, column_offset, column_divisor, label_width)
    after = _first_target(x + 1, column_step, column_offset, column_divisor, label_width)
    after = tl.where(x < width - 1, after, label_width)
    # Of the first pixels between the cell and its left and right neighbour.
    left_rest = _remainder(before, x - 1, column_step, column_offset, column_divisor)
    right_rest = _remainder(here, x, column_step, column_offset, column_divisor)
    row_scale, column_scale = 1.0 / row_divisor, 1.0 / column_divisor
    cells = logits + image * image_stride + index.to(tl.int64) * class_stride  # [1, N]
    at_left = tl.maximum(x - 1, 0).to(tl.int64) * column_stride  # [X, 1]
    at_here = x.to(tl.int64) * column_stride
    at_right = tl.minimum(x + 1, width - 1).to(tl.int64) * column_stride
    first_row = tl.program_id(1) * rows
    above = tl.maximum(first_row - 1, 0).to(tl.int64) * row_stride
    top_left = _finite_below(tl.load(cells + (at_left + above), valid, 0.0))
    top = _finite_below(tl.load(cells + (at_here + above), valid, 0.0))
    top_right = _finite_below(tl.load(cells + (at_right + above), valid, 0.0))
    from_above = tl.zeros((CELLS, CLASSES), tl.float32)
    for y in range(first_row - 1, tl.minimum(first_row + rows, height)):
        below = tl.minimum(y + 1, height - 1).to(tl.int64) * row_stride
        low_left = _finite_below(tl.load(cells + (at_left + below), valid, 0.0))
        low = _finite_below(tl.load(cells + (at_here + below), valid, 0.0))
        low_right = _finite_below(tl.load(cells + (at_right + below), valid, 0.0))
        first = _first_target(y, row_step, row_offset, row_divisor, label_height)
        end = _first_target(y + 1, row_step, row_offset, row_divisor, label_height)
        end = tl.where(y < height - 1, end, label_height)
        total = from_above
        from_above = tl.zeros_like(total)
        for row in range(first, end):
            rest = _remainder(row, y, row_step, row_offset, row_divisor)
            share = tl.maximum(rest, 0).to(tl.float32) * row_scale
            at = (image * label_height + row) * label_width
            row_grad = grad + image * grad_image + tl.cast(row, tl.int64) * grad_row
            middle = top * (1 - share) + low * share
            row_sum = _row_gradient(
                top_left * (1 - share) + low_left * share, middle, index, before, here, left_rest,
                column_step, column_scale, False, False, row_grad, grad_column, label + at,
                log_normaliser + at,
            ) + _row_gradient(
                middle, top_right * (1 - share) + low_right * share, index, here, after, right_rest,
                column_step, column_scale, True, x == width - 1, row_grad, grad_column,
                label + at, log_normaliser + at,
            )  # fmt: skip
            total += row_sum * tl.where(y < height - 1, 1 - share, 1.0)
            from_above += row_sum * share
        cell = ((image * classes + index) * height + y) * width + x
        tl.store(gradient + cell, total, valid & (y >= first_row))
        top_left, top, top_right = low_left, low, low_right


@triton.jit
def _finite(value):
    """Make infinities and NaN large finite numbers, NaN the largest, as labels need them."""
    value = value.to(tl.float32)
    value = tl.where(value == value, value, LARGEST)
    return tl.minimum(tl.maximum(value, -LARGEST), LARGEST)


@triton.jit
def _taps(
    row_index, row_weights, column_index, column_weights, one_pass, row, column, height, width,
    row_stride, column_stride, ROW_TAPS: tl.constexpr, COLUMN_TAPS: tl.constexpr,
):  # fmt: skip
    """Return offsets and weights ``[T, P]`` of all logits that the pixels read in a pass."""
    tap = tl.arange(0, ROW_TAPS * COLUMN_TAPS)[:, None]
    row_tap = (one_pass * ROW_TAPS + tap // COLUMN_TAPS) * height + row[None]
    column_tap = (one_pass * COLUMN_TAPS + tap % COLUMN_TAPS) * width + column[None]
    offset = tl.load(row_index + row_tap) * row_stride
    offset += tl.load(column_index + column_tap) * column_stride
    return offset, tl.load(row_weights + row_tap) * tl.load(column_weights + column_tap)


@triton.jit(do_not_specialize=(*_PLAIN, 'passes', 'threshold'))
def _labels_kernel(
    logits, row_index, row_weights, column_index, column_weights, log_normaliser, label,
    passes, classes, height, width, class_stride, row_stride, column_stride, threshold,
    ONE_PASS: tl.constexpr, ONE_CLASS: tl.constexpr,
    ROW_TAPS: tl.constexpr, COLUMN_TAPS: tl.constexpr,
    TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Find each pixel's class of the largest logit, or of the largest sum of probabilities."""
    row, column, inside = _pixels(height, width, TILE_ROWS, TILE_COLUMNS)
    at = row.to(tl.int64) * width + column
    offset, weight = _taps(
        row_index, row_weights, column_index, column_weights, 0, row, column, height, width,
        row_stride, column_stride, ROW_TAPS, COLUMN_TAPS,
    )  # fmt: skip
    best_score = tl.full((TILE_ROWS * TILE_COLUMNS,), -float('inf'), tl.float32)
    best = tl.zeros_like(row)
    if not ONE_PASS and not ONE_CLASS:
        for one_pass in range(passes):
            offset, weight = _taps(
                row_index, row_weights, column_index, column_weights, one_pass, row, column,
                height, width, row_stride, column_stride, ROW_TAPS, COLUMN_TAPS,
            )  # fmt: skip
            maximum, total = best_score, tl.zeros_like(best_score)
            for index in range(classes):
                value = tl.load(logits + tl.cast(index, tl.int64) * class_stride + offset)
                value = tl.sum(_finite(value) * weight, 0)
                maximum, total = _add_exponential(maximum, total, value)
            normaliser = log_normaliser + tl.cast(one_pass, tl.int64) * height * width
            tl.store(normaliser + at, maximum + tl.log(total), inside)
        tl.debug_barrier()  # the program reads what it wrote
    source = logits
    for index in range(classes):
        score = tl.zeros_like(best_score)
        for one_pass in range(1 if ONE_PASS else passes):
            if not ONE_PASS:
                offset, weight = _taps(
                    row_index, row_weights, column_index, column_weights, one_pass, row, column,
                    height, width, row_stride, column_stride, ROW_TAPS, COLUMN_TAPS,
                )  # fmt: skip
            value = tl.sum(_finite(tl.load(source + offset)) * weight, 0)
            if ONE_CLASS:
                # With several passes, MMSegmentation applies the sigmoid twice.
                value = tl.sigmoid(value) if ONE_PASS else tl.sigmoid(tl.sigmoid(value)) / passes
            elif not ONE_PASS:
                normaliser = log_normaliser + tl.cast(one_pass, tl.int64) * height * width
                value = tl.exp(value - tl.load(normaliser + at))
            score += value
        best = tl.where(score > best_score, index, best)
        best_score = tl.maximum(best_score, score)
        source += class_stride
    if ONE_CLASS:
        tl.store(label + at, (best_score > threshold).to(tl.float32), inside)
    else:
        tl.store(label + at, best.to(tl.int64), inside)


@triton.jit
def _read_by_tap(
    source, pixel, tap, dilation, height, width, SIZE: tl.constexpr, DIRECTION: tl.constexpr
):
    """Return what a tap of a kernel reads of a map for some pixels: 0 beyond the border."""
    reach = dilation * (SIZE - 1)
    row = pixel // width + DIRECTION * (tap // SIZE * dilation - reach + reach // 2)
    column = pixel % width + DIRECTION * (tap % SIZE * dilation - reach + reach // 2)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return tl.load(source + row * width + column, inside, 0.0).to(tl.float32)


@triton.jit
def _convolved(
    source, kernel, pixel, dilation, height, width, SIZE: tl.constexpr, DIRECTION: tl.constexpr
):
    """Return a map's convolution at some pixels; its transpose if DIRECTION is -1."""
    total = tl.zeros(pixel.shape, tl.float32)
    for tap in tl.static_range(SIZE * SIZE):
        value = _read_by_tap(source, pixel, tap, dilation, height, width, SIZE, DIRECTION)
        total += value * tl.load(kernel + tap)
    return total


@triton.jit(do_not_specialize=('height', 'width'))
def _weights_kernel(
    x, kernels, weights, height, width,
    SIZE: tl.constexpr, DILATIONS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Sum the sigmoids of a map's convolutions with one kernel at several dilations."""
    index = tl.program_id(0).to(tl.int64)  # of the map
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    source, kernel = x + index * height * width, kernels + index * SIZE * SIZE
    total = tl.zeros((PIXELS,), tl.float32)
    for place in tl.static_range(len(DILATIONS)):
        logit = _convolved(source, kernel, pixel, DILATIONS[place], height, width, SIZE, 1)
        total += tl.sigmoid(logit)
    tl.store(weights + index * height * width + pixel, total, pixel < height * width)


@triton.jit(do_not_specialize=('height', 'width'))
def _weights_gradient_kernel(
    grad, x, kernels, slopes, x_gradient, kernel_gradient, height, width,
    SIZE: tl.constexpr, DILATIONS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a map and of its kernel from the gradient of its weights."""
    index = tl.program_id(0).to(tl.int64)
    size = height * width
    source, kernel = x + index * size, kernels + index * SIZE * SIZE
    slopes += index * size * len(DILATIONS)  # the gradients of the convolutions
    for start in range(0, size, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        from_above = tl.load(grad + index * size + pixel, pixel < size, 0.0).to(tl.float32)
        for place in tl.static_range(len(DILATIONS)):
            logit = _convolved(source, kernel, pixel, DILATIONS[place], height, width, SIZE, 1)
            share = tl.sigmoid(logit)
            tl.store(slopes + place * size + pixel, from_above * share * (1 - share), pixel < size)
    tl.debug_barrier()  # the program reads what it wrote
    for start in range(0, size, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        total = tl.zeros((PIXELS,), tl.float32)
        for place in tl.static_range(len(DILATIONS)):
            slope = slopes + place * size
            total += _convolved(slope, kernel, pixel, DILATIONS[place], height, width, SIZE, -1)
        tl.store(x_gradient + index * size + pixel, total, pixel < size)
    for tap in range(SIZE * SIZE):
        total = tl.zeros((PIXELS,), tl.float32)
        for start in range(0, size, PIXELS):
            pixel = start + tl.arange(0, PIXELS)
            for place in tl.static_range(len(DILATIONS)):
                slope = tl.load(slopes + place * size + pixel, pixel < size, 0.0)
                dilation = DILATIONS[place]
                total += slope * _read_by_tap(source, pixel, tap, dilation, height, width, SIZE, 1)
        tl.store(kernel_gradient + index * SIZE * SIZE + tap, tl.sum(total))


def warp_options(block):
    """Return how Triton is to compile the second kernel for blocks of so many classes."""
    # For whole blocks ptxas would spill on some GPUs, in order to fit more programs.
    limit = dict(maxnreg=160) if block == MOST_CLASSES and not torch.version.hip else {}
    return dict(num_warps=1, **limit)


def _sides(logits, label, align_corners):
    """Return step, offset and divisor of the positions of rows and of columns."""
    sides = []
    for current, length in zip(logits.shape[2:], label.shape[1:], strict=True):
        if align_corners:
            sides += [current - 1, 0, max(length - 1, 1)]
        else:
            sides += [2 * current, current - length, 2 * length]
    return sides


def pixel_losses(logits, label, align_corners):
    """Return each pixel's cross-entropy of resized logits, its log-normaliser and best class.

    Args:
        logits (Tensor): float16, bfloat16 or float32, ``[B, N, h, w]``.
        label (Tensor): Classes, integers, ``[B, H, W]``; -1 where there is no label.
        align_corners (bool): ``align_corners`` of the resizing.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Losses, float32, 0 where there is no label;
        log-normalisers, float32; classes, in the type of ``label``, of several best ones the first.
        Each ``[B, H, W]``.
    """
    label = label.contiguous()
    losses = torch.empty_like(label, dtype=torch.float32)
    log_normaliser, best = torch.empty_like(losses), torch.empty_like(label)
    batch, height, width = label.shape
    grid = triton.cdiv(width, TILE_COLUMNS), triton.cdiv(height, TILE_ROWS), batch
    if label.numel():
        with torch.cuda.device_of(logits):  # where Triton launches
            _losses_kernel[grid](
                logits, label, losses, log_normaliser, best, *logits.shape[1:], height, width,
                *logits.stride(), *_sides(logits, label, align_corners), TILE_ROWS, TILE_COLUMNS,
            )  # fmt: skip
    return losses, log_normaliser, best


def pixel_losses_backward(grad, logits, label, log_normaliser, align_corners):
    """Return the gradient of the logits, gathered for each of their cells.

    Args:
        grad (Tensor): Gradient of the losses, float32, ``[B, H, W]``.
        logits (Tensor): As in :func:`pixel_losses`, ``[B, N, h, w]``.
        label (Tensor): As in :func:`pixel_losses`, ``[B, H, W]``.
        log_normaliser (Tensor): What :func:`pixel_losses` returned, ``[B, H, W]``.
        align_corners (bool): ``align_corners`` of the resizing.

    Returns:
        Tensor: ``[B, N, h, w]``, in the type of ``logits``, contiguous.
    """
    label, log_normaliser = label.contiguous(), log_normaliser.contiguous()
    gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
    batch, classes, height, width = logits.shape
    whole = classes // MOST_CLASSES * MOST_CLASSES
    # Whole blocks of classes, and a smaller block of the others.
    for first, count in ((0, whole), (whole, classes - whole)):
        block = min(triton.next_power_of_2(count), MOST_CLASSES)
        cells = max(WARP // max(block, 1), 1)
        programs = triton.cdiv(width, cells) * triton.cdiv(count, max(block, 1))
        rows = min(MOST_ROWS, max(1, batch * height * programs // FULL_GRID))
        if batch * height * programs:
            with torch.cuda.device_of(logits):
                _gradient_kernel[programs, triton.cdiv(height, rows), batch](
                    grad, logits, label, log_normaliser, gradient, *logits.shape[1:],
                    *label.shape[1:], *logits.stride(), *_sides(logits, label, align_corners),
                    *grad.stride(), first, rows, cells, block, **warp_options(block),
                )  # fmt: skip
    return gradient


def label_map(logits, rows, columns, threshold=None):
    """Return the class of each pixel by the mean probability of passes; of equal ones the first.

    Args:
        logits (Sequence[Tensor]): Small logits of each pass, of one type, ``[N, h, w]``.
        rows (Sequence[Interpolation]): Map of each pass from h rows to the H rows of the image.
        columns (Sequence[Interpolation]): Map of each pass from w columns to W columns.
        threshold (float | None): Required if N is 1. Default: None.

    Returns:
        Tensor | None: ``[1, H, W]``: classes, int64; if N is 1, zeros and ones, float32. None if a
        pixel reads more logits than the kernel serves.
    """
    passes, classes = len(logits), len(logits[0])
    (row_index, row_weights), (column_index, column_weights) = _tables(rows), _tables(columns)
    taps = row_index.size(1), column_index.size(1)
    if taps[0] * taps[1] > MOST_TAPS:
        return None
    pixels, strides = logits[0], logits[0].stride()
    if passes > 1:
        # One buffer, in which the place of a row depends on the table alone.
        pixels = torch.cat([each.permute(1, 2, 0).reshape(-1, classes) for each in logits])
        strides = 1, classes, classes
        start = 0
        for index, each in zip(row_index, logits, strict=True):
            index.mul_(each.size(2)).add_(start)
            start += each[0].numel()
    height, width = row_index.size(2), column_index.size(2)
    kind = torch.float32 if classes == 1 else torch.int64
    label = pixels.new_empty(1, height, width, dtype=kind)
    log_normaliser = label
    if passes > 1 and classes > 1:
        log_normaliser = pixels.new_empty(passes, height, width, dtype=torch.float32)
    tile = TILE_ROWS if taps[0] * taps[1] <= FEW_TAPS else 1, TILE_COLUMNS
    with torch.cuda.device_of(pixels):
        _labels_kernel[triton.cdiv(width, tile[1]), triton.cdiv(height, tile[0])](
            pixels, row_index, row_weights, column_index, column_weights, log_normaliser, label,
            passes, classes, height, width, *strides, threshold or 0.0, passes == 1, classes == 1,
            *taps, *tile,
        )  # fmt: skip
    return label


def _tables(sides):
    """Return indices and weights ``[passes, K, targets]`` of maps, with K a power of two."""
    taps = triton.next_power_of_2(max(side.index.size(1) for side in sides))
    tables = []
    for name in ('index', 'weights'):
        parts = [getattr(side, name).t() for side in sides]
        parts = [F.pad(part, (0, 0, 0, taps - len(part))) for part in parts]
        tables.append(torch.stack(parts).contiguous())
    return tables


def spatial_weights(x, kernels, dilations):
    """Return W; see :func:`mmseg_ctx.ops.spatially_varying_weights`, also for the arguments.

    ``x`` and ``kernels`` are contiguous, and ``kernels`` float32.
    """
    batch, channels, height, width = x.shape
    weights = torch.empty_like(x)
    if x.numel():
        grid = batch * channels, triton.cdiv(height * width, MAP_PIXELS)
        with torch.cuda.device_of(x):
            _weights_kernel[grid](
                x, kernels, weights, height, width, kernels.size(2), dilations, MAP_PIXELS
            )
    return weights


def spatial_weights_backward(grad, x, kernels, dilations):
    """Return the gradients of ``x`` and ``kernels`` from ``grad``, W's: see `spatial_weights`."""
    batch, channels, height, width = x.shape
    make = torch.empty_like if x.numel() else torch.zeros_like
    gradients = make(x), make(kernels)
    slopes = x.new_empty(batch, channels, len(dilations), height, width, dtype=torch.float32)
    if x.numel():
        with torch.cuda.device_of(x):
            _weights_gradient_kernel[(batch * channels,)](
                grad.contiguous(), x, kernels, slopes, *gradients, height, width,
                kernels.size(2), dilations, MAP_PIXELS,
            )  # fmt: skip
    return gradients
