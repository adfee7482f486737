"""Losses, their gradient and labels of resized logits in one kernel each, for GPUs.

Each of these reads the small logits and mixes them bilinearly in registers, so no logits of the
label's size exist. It reads logits of any strides. Two more kernels compute the weights of CaC-Net
and their gradients. All compute in float32, from float16, bfloat16 or float32. Offsets into tensors
have 64 bits. Nothing is added atomically: results are the same in every run.

This module imports Triton. :func:`mmseg_ctx.ops.kernel_choice.triton_kernels_for` imports this
module where Triton works. ``docs/gpu.md`` counts what the kernels read, write and compute.
"""

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

WARP = 32
# A thread of the first kernel has a column of up to so many pixels.
MOST_PIXELS = 8
REDUCED_AT_ONCE = 2048
# A program of the second kernel is one warp. It has up to so many classes, and so many gaps between
# cells times classes: eight a thread, which share what is read for each pixel.
MOST_CLASSES, ONE_PROGRAM = 32, 256
# It has up to so many rows of cells, since it computes the pixels above the first one for one row
# alone. A GPU is full with so many programs.
MOST_ROWS, FULL_GRID = 16, 2048
# Labels: a program computes a tile of pixels, one a thread. Eight columns of floats fill a sector
# of memory.
TILE_ROWS, TILE_COLUMNS = 4, 32
# A thread keeps the offsets and weights of few logits; several threads share more.
FEW_TAPS, MOST_TAPS = 16, 64
# Pixels of a map that a program computes at a time: CaC-Net's weights, and their gradients.
WEIGHT_PIXELS, GRADIENT_PIXELS = 512, 128

LOWEST = tl.constexpr(torch.finfo(torch.float32).min / 2)
LARGEST = tl.constexpr(torch.finfo(torch.float32).max / 2)
EPSILON = tl.constexpr(torch.finfo(torch.float32).eps)
LOG2_E = tl.constexpr(math.log2(math.e))

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
def _logit(source):
    """Load logits, with a large negative number in the place of minus infinity.

    Infinity times 0 would be NaN. NaN stays.
    """
    value = tl.load(source).to(tl.float32)
    return tl.maximum(value, LOWEST, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _add_exponential(maximum, total, value):
    """Add a value to the running sum of powers of 2, which is relative to the maximum."""
    difference = value - maximum
    smaller = tl.exp2(-tl.abs(difference))
    total = tl.where(difference > 0, total * smaller + 1, total + smaller)
    return tl.maximum(maximum, value), total


@triton.jit(do_not_specialize=(*_PLAIN, 'ignore_index'))
def _losses_kernel(
    logits, label, class_weight, losses, log_normaliser, best, sums,
    classes, height, width, label_height, label_width, ignore_index,
    image_stride, class_stride, row_stride, column_stride,
    row_step, row_offset, row_divisor, column_step, column_offset, column_divisor,
    REDUCED: tl.constexpr, WEIGHTED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute losses, log-normalisers and best classes by an online softmax.

    A program has the pixels between two rows of cells and in some columns, ``[R, C]`` at a time.
    If ``REDUCED``, it adds up the losses times the class weights, these weights, the pixels with a
    class, the right ones among them, and the wrong labels.
    """
    image, y = tl.program_id(2).to(tl.int64), tl.program_id(1)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None]  # [1, C]
    left, right, along = _sources(
        tl.minimum(column, label_width - 1), column_step, column_offset, column_divisor, width
    )
    # Values are logarithms to the base 2.
    of_left, of_right = (1 - along) * LOG2_E, along * LOG2_E
    top = logits + image * image_stride + y.to(tl.int64) * row_stride
    bottom = top + (tl.minimum(y + 1, height - 1) - y).to(tl.int64) * row_stride
    left, right = left * column_stride, right * column_stride
    first = _first_target(y, row_step, row_offset, row_divisor, label_height)
    end = _first_target(y + 1, row_step, row_offset, row_divisor, label_height)
    loss_sum = tl.zeros((COLUMNS,), tl.float32)
    weight_sum, labelled, hits, wrong = loss_sum, loss_sum, loss_sum, loss_sum
    for start in range(first, end, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]  # [R, 1]
        inside = (row < end) & (column < label_width)
        at = (image * label_height + row) * label_width + column
        down = tl.maximum(_remainder(row, y, row_step, row_offset, row_divisor), 0)
        down = down.to(tl.float32) / row_divisor
        given = tl.load(label + at, inside, 0).to(tl.int64)
        is_class = (given >= 0) & (given < classes) & (given != ignore_index)
        target_class = tl.where(is_class, given, -1).to(tl.int32)
        maximum = tl.full((ROWS, COLUMNS), -float('inf'), tl.float32)
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        target, best_class = total, tl.zeros((ROWS, COLUMNS), tl.int32)
        plane = tl.cast(0, tl.int64)
        for index in range(classes):
            upper = _logit(top + plane + left) * of_left + _logit(top + plane + right) * of_right
            lower = _logit(bottom + plane + left) * of_left
            lower += _logit(bottom + plane + right) * of_right
            value = upper * (1 - down) + lower * down
            best_class = tl.where(value > maximum, index, best_class)
            target = tl.where(target_class == index, value, target)
            maximum, total = _add_exponential(maximum, total, value)
            plane += class_stride
        normaliser = (maximum + tl.log2(total)) / LOG2_E
        loss = tl.where(is_class, normaliser - target / LOG2_E, 0.0)
        # So the second kernel finds the pixels without a class.
        tl.store(log_normaliser + at, tl.where(is_class, normaliser, float('inf')), inside)
        if REDUCED:
            is_class = is_class & inside
            weight = tl.where(is_class, 1.0, 0.0)
            labelled += tl.sum(weight, 0)
            hits += tl.sum(tl.where(best_class == target_class, weight, 0.0), 0)
            is_wrong = inside & (given != ignore_index) & (target_class < 0)
            wrong += tl.sum(tl.where(is_wrong, 1.0, 0.0), 0)
            if WEIGHTED:
                weight = tl.load(class_weight + target_class, is_class, 0.0)
            loss_sum += tl.sum(loss * weight, 0)
            weight_sum += tl.sum(weight, 0)
        else:
            tl.store(losses + at, loss, inside)
            tl.store(best + at, best_class, inside)
    if REDUCED:
        programs = tl.num_programs(0) * tl.num_programs(1) * tl.num_programs(2)
        program = (tl.program_id(2) * tl.num_programs(1) + y) * tl.num_programs(0)
        sums += program + tl.program_id(0)
        tl.store(sums, tl.sum(loss_sum))
        tl.store(sums + programs, tl.sum(weight_sum))
        tl.store(sums + 2 * programs, tl.sum(labelled))
        tl.store(sums + 3 * programs, tl.sum(hits))
        tl.store(sums + 4 * programs, tl.sum(wrong))


@triton.jit(do_not_specialize=['programs'])
def _reduction_kernel(
    sums, loss, accuracy, scale, valid, programs, divisor, epsilon, factor,
    COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up the sums of the programs of the first kernel, and divide.

    ``scale`` is what a pixel's loss times its class weight is multiplied by in the result. If
    ``COUNTED``, the divisor is the sum of the weights.
    """
    loss_sum = tl.zeros((BLOCK,), tl.float32)
    weight_sum, labelled, hits, wrong = loss_sum, loss_sum, loss_sum, loss_sum
    for start in range(0, programs, BLOCK):
        program = start + tl.arange(0, BLOCK)
        inside = program < programs
        loss_sum += tl.load(sums + program, inside, 0.0)
        weight_sum += tl.load(sums + programs + program, inside, 0.0)
        labelled += tl.load(sums + 2 * programs + program, inside, 0.0)
        hits += tl.load(sums + 3 * programs + program, inside, 0.0)
        wrong += tl.load(sums + 4 * programs + program, inside, 0.0)
    if COUNTED:
        divisor = tl.sum(weight_sum)
    factor = factor / (divisor + epsilon)
    tl.store(loss, tl.sum(loss_sum) * factor)
    tl.store(scale, factor)
    tl.store(accuracy, 100 * (tl.sum(hits) + EPSILON) / (tl.sum(labelled) + EPSILON))
    tl.store(valid, tl.sum(wrong) == 0)


@triton.jit(do_not_specialize=(*_PLAIN, 'grad_image', 'grad_row', 'grad_column', 'rows'))
def _gradient_kernel(
    grad, scale, class_weight, logits, label, log_normaliser, gradient,
    classes, height, width, label_height, label_width,
    image_stride, class_stride, row_stride, column_stride,
    row_step, row_offset, row_divisor, column_step, column_offset, column_divisor,
    grad_image, grad_row, grad_column, rows,
    REDUCED: tl.constexpr, WEIGHTED: tl.constexpr, CLASSES: tl.constexpr, GAPS: tl.constexpr,
):  # fmt: skip
    """Sum, for some cells and classes ``[N, X]``, the gradients of the pixels that read them.

    A thread has a gap between two neighbouring cells of a row. From top to bottom, it computes each
    row of pixels once for the cells above and below, left and right of the gap. The cell of a gap
    is its left one; what the gap on its left adds comes from another thread. So a program computes
    one more gap than it has cells, at its left end, and one more row of gaps, above its first.
    """
    image = tl.program_id(2).to(tl.int64)
    blocks = tl.cdiv(width, GAPS - 1)
    x = tl.program_id(0) % blocks * (GAPS - 1) - 1 + tl.arange(0, GAPS)[None]  # [1, X]
    index = tl.program_id(0) // blocks * CLASSES + tl.arange(0, CLASSES)[:, None]  # [N, 1]
    valid = (index < classes) & (x < width)
    start = _first_target(x, column_step, column_offset, column_divisor, label_width)
    count = _first_target(x + 1, column_step, column_offset, column_divisor, label_width) - start
    longest = tl.max(count)
    rest = _remainder(start, x, column_step, column_offset, column_divisor)  # of the first pixel
    row_scale, column_scale = 1.0 / row_divisor, 1.0 / column_divisor
    column_scale = tl.where(x < width - 1, column_scale, 0.0)  # the last cell has all of its gap
    left = (
        logits + image * image_stride + tl.minimum(index, classes - 1).to(tl.int64) * class_stride
    )
    right = left + tl.maximum(tl.minimum(x + 1, width - 1), 0).to(tl.int64) * column_stride
    left += tl.maximum(tl.minimum(x, width - 1), 0).to(tl.int64) * column_stride
    first_row = tl.program_id(1) * rows
    above = tl.maximum(first_row - 1, 0).to(tl.int64) * row_stride
    top_left, top_right = _logit(left + above) * LOG2_E, _logit(right + above) * LOG2_E
    factor = tl.load(grad) * tl.load(scale) if REDUCED else 1.0
    below_all = tl.zeros((CLASSES, GAPS), tl.float32)  # what is added to the cells below
    below_right = below_all
    for y in range(first_row - 1, tl.minimum(first_row + rows, height)):
        below = tl.minimum(y + 1, height - 1).to(tl.int64) * row_stride
        low_left, low_right = _logit(left + below) * LOG2_E, _logit(right + below) * LOG2_E
        total, total_right = below_all, below_right
        below_all = tl.zeros((CLASSES, GAPS), tl.float32)
        below_right = below_all
        first = _first_target(y, row_step, row_offset, row_divisor, label_height)
        end = _first_target(y + 1, row_step, row_offset, row_divisor, label_height)
        for row in range(first, end):
            down = tl.maximum(_remainder(row, y, row_step, row_offset, row_divisor), 0)
            down = tl.where(y < height - 1, down.to(tl.float32) * row_scale, 0.0)
            middle = top_left + (low_left - top_left) * down
            change = top_right + (low_right - top_right) * down - middle
            at = (image * label_height + row) * label_width + start
            row_label, row_normaliser = label + at, log_normaliser + at
            row_grad = grad + image * grad_image + tl.cast(row, tl.int64) * grad_row
            row_all = tl.zeros((CLASSES, GAPS), tl.float32)
            row_right = row_all
            for distance in range(longest):
                inside = distance < count  # [1, X]
                share = tl.maximum(rest + distance * column_step, 0).to(tl.float32) * column_scale
                share = tl.minimum(share, 1)  # of no pixel: more would make -infinity NaN
                normaliser = tl.load(row_normaliser + distance, inside, float('inf'))
                target = tl.load(row_label + distance, inside, 0).to(tl.int32)
                # Where it is infinite, there is no class.
                weight = tl.where(normaliser == float('inf'), 0.0, factor)
                if WEIGHTED:
                    weight *= tl.load(class_weight + target, weight != 0, 0.0)
                if not REDUCED:
                    pixel = (start + distance).to(tl.int64) * grad_column
                    weight *= tl.load(row_grad + pixel, inside, 0.0)
                probability = tl.exp2(middle + change * share - normaliser * LOG2_E)
                slope = weight * (probability - tl.where(index == target, 1.0, 0.0))
                row_all += slope
                row_right += share * slope
            total += row_all * (1 - down)
            below_all += row_all * down
            total_right += row_right * (1 - down)
            below_right += row_right * down
        lane = tl.maximum(tl.arange(0, GAPS)[None] - 1, 0) + tl.zeros_like(index)
        cell_sum = total - total_right + tl.gather(total_right, lane, 1)
        cell = ((image * classes + index) * height + y) * width + x
        owned = valid & (y >= first_row) & (tl.arange(0, GAPS)[None] > 0)
        tl.store(gradient + cell, cell_sum, owned)
        top_left, top_right = low_left, low_right


@triton.jit
def _pixels(label_height, label_width, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr):
    """Return rows and columns ``[P]`` of this program's pixels, and which are in the label."""
    pixel = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    row = tl.program_id(1) * TILE_ROWS + pixel // TILE_COLUMNS
    column = tl.program_id(0) * TILE_COLUMNS + pixel % TILE_COLUMNS
    inside = (row < label_height) & (column < label_width)
    return tl.minimum(row, label_height - 1), tl.minimum(column, label_width - 1), inside


@triton.jit
def _finite(value):
    """Make infinities and NaN large finite numbers, NaN the largest, as labels need them."""
    value = value.to(tl.float32)
    return tl.maximum(tl.where(value < LARGEST, value, LARGEST), -LARGEST)


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
                value = tl.sum(_finite(value) * weight, 0) * LOG2_E
                maximum, total = _add_exponential(maximum, total, value)
            normaliser = log_normaliser + tl.cast(one_pass, tl.int64) * height * width
            tl.store(normaliser + at, maximum + tl.log2(total), inside)
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
                value = tl.exp2(value * LOG2_E - tl.load(normaliser + at))
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
    """Return what taps of a kernel read of a map for some pixels: 0 beyond the border."""
    reach = dilation * (SIZE - 1)
    row = pixel // width + DIRECTION * (tap // SIZE * dilation - reach + reach // 2)
    column = pixel % width + DIRECTION * (tap % SIZE * dilation - reach + reach // 2)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (tap < SIZE * SIZE)
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
    SIZE: tl.constexpr, DILATIONS: tl.constexpr, TAPS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a map and of its kernel from the gradient of its weights."""
    index = tl.program_id(0).to(tl.int64)
    size = height * width
    source, kernel = x + index * size, kernels + index * SIZE * SIZE
    slopes += index * size * len(DILATIONS)  # the gradients of the convolutions
    tap = tl.arange(0, TAPS)
    weight = tl.load(kernel + tap, tap < SIZE * SIZE, 0.0)
    kernel_total = tl.zeros((TAPS, PIXELS), tl.float32)
    for start in range(0, size, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        from_above = tl.load(grad + index * size + pixel, pixel < size, 0.0).to(tl.float32)
        for place in tl.static_range(len(DILATIONS)):
            value = _read_by_tap(
                source, pixel[None], tap[:, None], DILATIONS[place], height, width, SIZE, 1
            )  # [T, P]
            share = tl.sigmoid(tl.sum(value * weight[:, None], 0))
            slope = from_above * share * (1 - share)
            tl.store(slopes + place * size + pixel, slope, pixel < size)
            kernel_total += value * slope[None]
    kernel_sum = tl.sum(kernel_total, 1)
    tl.store(kernel_gradient + index * SIZE * SIZE + tap, kernel_sum, tap < SIZE * SIZE)
    tl.debug_barrier()  # the program reads what it wrote
    for start in range(0, size, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        total = tl.zeros((PIXELS,), tl.float32)
        for place in tl.static_range(len(DILATIONS)):
            slope = slopes + place * size
            total += _convolved(slope, kernel, pixel, DILATIONS[place], height, width, SIZE, -1)
        tl.store(x_gradient + index * size + pixel, total, pixel < size)


def _sides(logits, label, align_corners):
    """Return step, offset and divisor of the positions of rows and of columns."""
    sides = []
    for current, length in zip(logits.shape[2:], label.shape[1:], strict=True):
        if align_corners:
            sides += [current - 1, 0, max(length - 1, 1)]
        else:
            sides += [2 * current, current - length, 2 * length]
    return sides


def _losses(logits, label, class_weight, ignore_index, align_corners, reduced):
    """Launch the first kernel; return losses, log-normalisers, best classes and sums."""
    label = label.contiguous()
    height, width = label.shape[1:]
    gaps = -(-height // logits.size(2))  # rows of pixels between two rows of cells
    rows = min(triton.next_power_of_2(gaps), MOST_PIXELS)
    grid = triton.cdiv(width, WARP), logits.size(2), len(label)
    log_normaliser = logits.new_empty(label.shape, dtype=torch.float32)
    losses = best = sums = log_normaliser
    if reduced:
        sums = log_normaliser.new_empty(5, math.prod(grid))
    else:
        losses, best = torch.empty_like(losses), torch.empty_like(label)
    if label.numel():
        with torch.cuda.device_of(logits):  # where Triton launches
            _losses_kernel[grid](
                logits, label, sums if class_weight is None else class_weight, losses,
                log_normaliser, best, sums, *logits.shape[1:], height, width, ignore_index,
                *logits.stride(), *_sides(logits, label, align_corners),
                reduced, class_weight is not None, rows, WARP, num_warps=1,
            )  # fmt: skip
    return losses, log_normaliser, best, sums


def pixel_losses(logits, label, align_corners):
    """Return each pixel's loss, float32, its log-normaliser, float32, and best class ``[B, H, W]``.

    ``label`` has any integer type; what is no class has the loss 0 and an infinite log-normaliser.
    Best classes have its type; of several, the first.
    """
    return _losses(logits, label, None, -1, align_corners, reduced=False)[:3]


def reduced_losses(
    logits, label, class_weight, ignore_index, align_corners, divisor, epsilon, factor
):
    """Return loss, accuracy in percent ``[1]``, and whether labels are classes or ``ignore_index``.

    The loss is ``factor`` times the sum of the pixels' losses times ``class_weight`` (float32
    ``[N]`` or None), divided by ``divisor`` (None for the sum of the weights) plus ``epsilon``.
    Further results are for the backward pass: log-normalisers ``[B, H, W]``, and what each loss was
    multiplied by, a scalar.
    """
    _, log_normaliser, _, sums = _losses(
        logits, label, class_weight, ignore_index, align_corners, reduced=True
    )
    loss, accuracy, scale = (sums.new_empty(shape) for shape in ((), 1, ()))
    valid = sums.new_empty((), dtype=torch.bool)
    with torch.cuda.device_of(logits):
        _reduction_kernel[(1,)](
            sums, loss, accuracy, scale, valid, sums.size(1), float(divisor or 0), epsilon, factor,
            divisor is None, REDUCED_AT_ONCE, num_warps=8,
        )  # fmt: skip
    return loss, accuracy, valid, log_normaliser, scale


def pixel_losses_backward(
    grad, logits, label, log_normaliser, align_corners, scale=None, class_weight=None
):
    """Return the gradient of the logits ``[B, N, h, w]``, gathered for each of their cells.

    ``grad`` is the gradient of the losses of pixels, float32 ``[B, H, W]``; with ``scale``, which
    :func:`reduced_losses` returned, the gradient of its loss, a scalar.
    """
    label, log_normaliser = label.contiguous(), log_normaliser.contiguous()
    gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
    batch, classes, height, width = logits.shape
    block = min(triton.next_power_of_2(classes), MOST_CLASSES)
    gaps = min(ONE_PROGRAM // block, WARP)
    programs = triton.cdiv(width, gaps - 1) * triton.cdiv(classes, block)
    rows = min(MOST_ROWS, max(1, batch * height * programs // FULL_GRID))
    strides = grad.stride() if scale is None else (0, 0, 0)
    if logits.numel():
        with torch.cuda.device_of(logits):
            _gradient_kernel[programs, triton.cdiv(height, rows), batch](
                grad, grad if scale is None else scale,
                grad if class_weight is None else class_weight,
                logits, label, log_normaliser, gradient, *logits.shape[1:], *label.shape[1:],
                *logits.stride(), *_sides(logits, label, align_corners), *strides, rows,
                scale is not None, class_weight is not None, block, gaps, num_warps=1,
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
        grid = batch * channels, triton.cdiv(height * width, WEIGHT_PIXELS)
        with torch.cuda.device_of(x):
            _weights_kernel[grid](
                x, kernels, weights, height, width, kernels.size(2), dilations, WEIGHT_PIXELS
            )
    return weights


def spatial_weights_backward(grad, x, kernels, dilations):
    """Return the gradients of ``x`` and ``kernels`` from ``grad``, W's: see `spatial_weights`."""
    batch, channels, height, width = x.shape
    make = torch.empty_like if x.numel() else torch.zeros_like
    gradients = make(x), make(kernels)
    size = kernels.size(2)
    slopes = x.new_empty(batch, channels, len(dilations), height, width, dtype=torch.float32)
    if x.numel():
        with torch.cuda.device_of(x):
            _weights_gradient_kernel[(batch * channels,)](
                grad.contiguous(), x, kernels, slopes, *gradients, height, width,
                size, dilations, triton.next_power_of_2(size**2), GRADIENT_PIXELS,
            )  # fmt: skip
    return gradients
