"""ACNet's context: where it uses global and where local context (the paper's Figure 4)."""

import math
from itertools import zip_longest

from mmseg_ctx.visualization.panels import Map, PixelAnswer

TITLE = 'ACNet: global or local context, place by place'
EXPLANATION = (
    'Where w is near 1, a block adds the feature of the whole image. Where 1 − w is near 1, it '
    'fuses the features of a finer stage.\n'
    'A block without a local gate reads no finer stage.'
)


def read_context(head, shown, prediction):
    """Return the gates of each block, coarsest first: list[tuple].

    These are a title with the block's stride, w of Eq. 2, ``[h, w]``, and 1 − w of Eq. 4 at the
    finer stage's size, or None where a block has global context alone.
    """
    weights, local = (
        [gate[0, 0].float().cpu() for gate in shown.get(name, [])]
        for name in ('gate', 'local_gate')
    )
    # A stride is a power of 2; the size of a map is rounded up.
    strides = [2 ** round(math.log2(prediction.padded_size[0] / len(each))) for each in weights]
    titles = [f'block {number} at 1/{stride}' for number, stride in enumerate(strides, start=1)]
    return list(zip_longest(titles, weights, local))


def panels(blocks, prediction):
    """Return each global gate over the image, and below it the gate of the local context."""
    above = [
        Map(f'{title}: global gate w', weight, prediction, (0, 1)) for title, weight, _ in blocks
    ]
    below = [
        None if local is None else Map(f'{title}: local gate 1 − w', local, prediction, (0, 1))
        for title, _, local in blocks
    ]
    return [above, below]


def at_pixel(blocks, prediction, pixel):
    """Return the gates at a pixel, and the map of each global gate."""
    rows = [
        [title, *(None if gate is None else prediction.at(gate, pixel).item() for gate in gates)]
        for title, *gates in blocks
    ]
    shares = ', '.join(f'{weight:.2f} in {title}' for title, weight, _ in rows)
    maps = [
        Map(f'{title}\nw = {here:.2f}', weight, prediction, limits=(0, 1), pixel=pixel)
        for (title, weight, _), (_, here, _) in zip(blocks, rows, strict=True)
    ]
    columns = 'block', 'global gate w', 'local gate 1 − w'
    return PixelAnswer(f'The gate w of the global context is {shares}.', columns, rows, [maps])
