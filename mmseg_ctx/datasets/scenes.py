"""Draws the context scenes with NumPy: an image and its label from ``(seed, index)``.

All numbers come from uniform draws. The code only adds, multiplies, divides and compares them, and
takes square roots. IEEE 754 defines how these operations round, so every platform draws the same
scene.
"""

from itertools import pairwise
from operator import itemgetter

import numpy as np

from mmseg_ctx.ops.labels import IGNORED

COLOURS = {
    'sky': (135, 206, 235),
    'water': (30, 90, 200),
    'sand': (240, 205, 120),
    'road': (90, 90, 100),
    'grass': (110, 190, 70),
    'building': (165, 85, 60),
    'tree': (25, 105, 50),
    'tent': (0, 170, 175),
    'campfire': (255, 110, 20),
    'dark crate': (85, 40, 120),
    'light crate': (215, 165, 250),
    'pole': (15, 15, 15),
    'wire': (250, 60, 130),
    'kite': (225, 20, 30),
}
"""RGB of each class, for pictures of labels; classes are in the order of the labels."""
CLASSES = tuple(COLOURS)
PALETTE = tuple(COLOURS.values())
SKY, WATER, SAND, ROAD, GRASS, BUILDING, TREE, TENT, CAMPFIRE = range(9)
DARK_CRATE, LIGHT_CRATE, POLE, WIRE, KITE = range(9, 14)

GROUND_TYPES = (WATER, SAND, ROAD, GRASS)
KITE_SHAPES = ('diamond', 'disc', 'triangle', 'square')
KITE_COLOURS = ((0.95, 0.1, 0.1), (1.0, 0.9, 0.1), (0.1, 0.75, 0.2), (0.65, 0.15, 0.9))
KITE_AREA = 0.003
KITE_ROWS = 0.22
"""The kite flies in this upper part of the height, and no object reaches into it."""

CRATE_BIN_WEIGHTS = np.array([1, 2, 4, 8, 16, 32, 32, 32, 16, 8, 4, 2, 1])
CRATE_BIN_EDGES = np.cumsum([5, 3, 4, 6, 8, 10, 10, 10, 10, 10, 8, 6, 4, 3]) / 100
"""Bins of brightness, see ``crate_levels``. Dark and light differ by the width of a bin."""
BORDER_PROBABILITY = 0.3
POLES_PROBABILITY = 0.8
CAMP_PROBABILITY = 0.7


class Draws:
    """The random numbers of one scene, all from the bit generator's uniform doubles."""

    def __init__(self, *seeds):
        self.generator = np.random.Generator(np.random.PCG64(seeds))

    def uniform(self, low=0.0, high=1.0, size=None):
        """Return a float, or an array of a size, of at least ``low`` and below ``high``."""
        return low + (high - low) * self.generator.random(size)

    def integer(self, low, high):
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self.generator.random())

    def chance(self, probability):
        """Return True with a probability."""
        return bool(self.generator.random() < probability)

    def noise(self, *shape):
        """Return float32 noise with a triangular distribution of mean 0 and variance 1/6."""
        draws = self.generator.random((2, *shape), dtype=np.float32)
        return draws[0] - draws[1]

    def smooth_noise(self, height, width, cell):
        """Return noise ``[height, width]``, interpolated from a grid of ``cell`` pixels."""
        grid = self.noise(height // cell + 2, width // cell + 2)
        return interpolate(interpolate(grid, height, cell).T, width, cell).T


def interpolate(rows, length, cell):
    """Interpolate ``rows``, one every ``cell`` steps, linearly along the first axis."""
    below, part = np.divmod(np.arange(length), cell)
    part = (part / np.float32(cell))[:, None].astype(np.float32)
    return rows[below] * (1 - part) + rows[below + 1] * part


def outline(shape, height, width):
    """Return which pixels of a box lie in a shape that fills it: bool ``[height, width]``."""
    v = ((np.arange(height) * 2 + 1) / height - 1)[:, None]
    u = ((np.arange(width) * 2 + 1) / width - 1)[None, :]
    if shape == 'disc':
        return u * u + v * v <= 1
    if shape == 'diamond':
        return abs(u) + abs(v) <= 1
    if shape == 'triangle':
        return 2 * abs(u) <= v + 1
    if shape == 'tree':
        crown = u * u + (v + 0.25) ** 2 / 0.5625 <= 1
        return crown | ((abs(u) <= 0.2) & (v > 0))
    return np.ones((height, width), bool)


SHAPE_AREA = dict(disc=0.7853981633974483, diamond=0.5, triangle=0.5, square=1.0)


class Canvas:
    """The image and the label of one scene."""

    def __init__(self, height, width):
        self.height, self.width, self.side = height, width, min(height, width)
        self.image = np.zeros((height, width, 3), np.float32)
        self.label = np.full((height, width), SKY, np.uint8)

    def clip(self, top, left, height, width):
        """Return the part of a box within the image: slices of the image and slices of the box."""
        rows = max(top, 0), min(top + height, self.height)
        columns = max(left, 0), min(left + width, self.width)
        inner = slice(*np.subtract(rows, top)), slice(*np.subtract(columns, left))
        return (slice(*rows), slice(*columns)), inner

    def paint(self, box, shape, colour, label, margin=0):
        """Paint a shape that fills a box (top, left, height, width), with an ignored border.

        ``colour`` is RGB in [0, 1], ``[3]`` or a colour for each pixel of the box.
        """
        top, left, height, width = box
        if margin:
            wide = (top - margin, left - margin, height + 2 * margin, width + 2 * margin)
            where, inner = self.clip(*wide)
            self.label[where][outline(shape, *wide[2:])[inner]] = IGNORED
        where, inner = self.clip(*box)
        mask = outline(shape, height, width)[inner]
        self.label[where][mask] = label
        colour = np.broadcast_to(np.float32(colour), (height, width, 3))[inner]
        self.image[where][mask] = colour[mask]


def hue_rotation(tangent):
    """Return the matrix ``[3, 3]`` that turns RGB around the grey axis by ``2 * atan(tangent)``."""
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    same = cosine + (1 - cosine) / 3
    minus = (1 - cosine) / 3 - sine / 3**0.5
    plus = (1 - cosine) / 3 + sine / 3**0.5
    return np.array([[same, minus, plus], [plus, same, minus], [minus, plus, same]])


def draw_light(draws):
    """Return a function of colours: illumination and hue shift of a scene, RGB in [0, 1]."""
    gain = draws.uniform(0.7, 1.05) * draws.uniform(0.93, 1.07, 3)
    red, green, blue = (gain[:, None] * hue_rotation(draws.uniform(-0.2, 0.2))).T
    return lambda colour: red * colour[0] + green * colour[1] + blue * colour[2]


def border(draws):
    """Return the width in pixels of an object's ignored border; most objects have none."""
    return draws.integer(1, 2) if draws.chance(BORDER_PROBABILITY) else 0


def stand(draws, canvas, horizon, height):
    """Return the top row of an object that stands on the ground, below the kite's rows."""
    lowest = canvas.height
    highest = min(lowest, max(horizon + 2, int(KITE_ROWS * canvas.height) + 2 + height))
    return draws.integer(highest, lowest) - height


def draw_background(draws, canvas, light):
    """Draw sky and ground; return where the ground is, and the row of the horizon."""
    height, width = canvas.height, canvas.width
    rows = np.arange(height)[:, None]
    columns = np.arange(width)[None, :]
    start, end = draws.uniform(0.43, 0.53, 2) * height
    horizon = start + (end - start) * columns / width
    ground = rows >= horizon

    sky = light(draws.uniform(0.9, 1.1, 3) * (0.5, 0.72, 0.98))
    haze = light((0.92, 0.94, 0.95))
    depth = (rows / height).astype(np.float32)[..., None]
    canvas.image[:] = np.float32(sky) * (1 - depth) + np.float32(haze) * depth
    cloud = draws.smooth_noise(height, width, max(2, canvas.side // 6))
    canvas.image += np.clip(cloud * 0.7, 0, 0.3)[..., None]

    soil = light(draws.uniform(0.85, 1.15, 3) * (0.6, 0.54, 0.46))
    texture = 0.25 * draws.smooth_noise(height, width, max(2, canvas.side // 10))
    texture += 0.2 * draws.smooth_noise(height, width, max(2, canvas.side // 40))
    texture += 1.1 - 0.35 * depth[..., 0]
    np.copyto(canvas.image, np.float32(soil) * texture[..., None], where=ground[..., None])
    return ground, int(max(start, end)) + 1


def draw_standing(draws, canvas, light, horizon):
    """Draw buildings and trees of every size, the far ones first."""
    things = []
    for label in [BUILDING] * draws.integer(1, 3) + [TREE] * draws.integer(1, 3):
        # From 1/32 to 1/2 of the side; all octaves are equally likely.
        height = max(1, round(canvas.side * draws.uniform(1, 2) / 2 ** draws.integer(2, 5)))
        width = max(1, round(height * draws.uniform(0.6, 1.0)))
        top = stand(draws, canvas, horizon, height)
        left = draws.integer(0, max(0, canvas.width - width))
        shift = draws.uniform(0.8, 1.2, 3)
        box = (top, left, height, width)
        if label == TREE:
            shape, colour = 'tree', light(shift * (0.16, 0.36, 0.14))
        else:
            shape, colour = 'square', light(shift * (0.62, 0.36, 0.28)) * windows(height, width)
        things.append((top + height, (box, shape, colour, label, border(draws))))
    for _, thing in sorted(things, key=itemgetter(0)):
        canvas.paint(*thing)


def windows(height, width):
    """Return the shade of a building's front with dark windows: ``[height, width, 1]``."""
    pitch = max(4, height // 6)
    rows = np.arange(height)[:, None] % pitch
    columns = np.arange(width)[None, :] % pitch
    panes = (rows >= pitch / 2) & (columns >= pitch / 2) & (np.arange(width)[None, :] < width - 1)
    return np.where(panes, 0.55, 1.0)[..., None]


def draw_lines(draws, canvas, light, horizon):
    """Draw two or three poles, one to three pixels wide, and the wires between them."""
    count = draws.integer(2, 3)
    height = round(canvas.side * draws.uniform(0.3, 0.5))
    top = stand(draws, canvas, horizon, height)
    width = draws.integer(1, 3)
    places = (np.arange(count) + draws.uniform(0.2, 0.8, count)) / count
    lefts = [int(place * (canvas.width - width)) for place in places]
    thickness = draws.integer(1, 3)
    colour = light(draws.uniform(0.8, 1.2) * np.array((0.16, 0.15, 0.17)))
    drops = [1] if draws.chance(0.5) else [1, 1 + max(thickness + 2, height // 5)]
    for left, right in pairwise(lefts):
        for drop in drops:
            columns = np.arange(left, right)
            along = (columns - left) / (right - left)
            sag = np.floor(height * 0.5 * along * (1 - along)).astype(int)
            for line in range(thickness):
                rows = np.clip(top + drop + line + sag, 0, canvas.height - 1)
                canvas.label[rows, columns] = WIRE
                canvas.image[rows, columns] = colour
    for left in lefts:
        canvas.paint((top, left, height, width), 'square', colour, POLE)


def crate_levels(draws):
    """Return brightness and class of the three crates of a scene.

    Over all images, dark and light crates must have the same distribution of brightness, so that
    brightness alone does not tell them apart. With one crate of each class in an image this is
    impossible: the means differ by the gap. So each image has two crates of one class and one of
    the other: two light ones if the pair is dim, two dark ones if it is bright. Let both classes
    have weight w[k] in brightness bin k. A pair of bins (k, k + 1) is drawn in proportion to
    w[k] + w[k + 1]; on average 3 w[k] / (w[k] + w[k + 1]) of its three crates are dark, so its bins
    get w[k] dark and w[k + 1] light crates. Only the outermost bins, of weight 1/158 each, have one
    class alone.
    """
    weights = CRATE_BIN_WEIGHTS
    pairs = weights[:-1] + weights[1:]
    pair = int(np.searchsorted(np.cumsum(pairs), draws.uniform(0, pairs.sum()), side='right'))
    dark_crates = 3 * weights[pair] / pairs[pair]
    third = DARK_CRATE if draws.chance(dark_crates - 1) else LIGHT_CRATE
    classes = [DARK_CRATE, LIGHT_CRATE]
    classes.insert(draws.integer(0, 2), third)
    within = draws.uniform()
    levels = CRATE_BIN_EDGES[:-1] + within * np.diff(CRATE_BIN_EDGES)
    return [levels[pair + (label == LIGHT_CRATE)] for label in classes], classes


def draw_foreground(draws, canvas, light, horizon):
    """Draw three crates and, in most scenes, a camp, each in its own quarter of the width."""
    tint = draws.uniform(0.9, 1.1, 3)
    camp_quarter = draws.integer(0, 3)
    quarters = [quarter for quarter in range(4) if quarter != camp_quarter]
    for quarter, level, label in zip(quarters, *crate_levels(draws), strict=True):
        size = max(3, round(canvas.side * draws.uniform(0.07, 0.17)))
        top = stand(draws, canvas, horizon, size)
        left = place_in_quarter(draws, canvas, quarter, size)
        colour = light(level * tint) * crate_front(size)
        canvas.paint((top, left, size, size), 'square', colour, label, border(draws))
    if draws.chance(CAMP_PROBABILITY):
        draw_camp(draws, canvas, light, horizon, camp_quarter)


def place_in_quarter(draws, canvas, quarter, width):
    """Return the left column of an object within one quarter of the image's width."""
    slot = canvas.width / 4
    return int(quarter * slot + draws.uniform() * max(0, slot - width))


def draw_camp(draws, canvas, light, horizon, quarter):
    """Draw a tent with its campfire; they only occur together."""
    height = max(3, round(canvas.side * draws.uniform(0.06, 0.11)))
    fire = max(2, height // 2)
    width = round(1.4 * height)
    top = stand(draws, canvas, horizon, height)
    left = place_in_quarter(draws, canvas, quarter, width + fire)
    cloth = light(draws.uniform(0.85, 1.1, 3) * (0.9, 0.85, 0.75))
    canvas.paint((top, left, height, width), 'triangle', cloth, TENT, border(draws))
    place = (top + height - fire, left + width, fire, fire)
    canvas.paint(place, 'triangle', light((1.0, 0.5, 0.1)), CAMPFIRE)


def crate_front(size):
    """Return the shade of a crate's front, with a dark frame and brace: ``[size, size, 1]``.

    The mean is 0.9 for every size; otherwise a large light crate could be darker than a small dark
    one.
    """
    along = abs((np.arange(size) * 2 + 1) / size - 1)
    frame = np.maximum(along[:, None], along[None, :]) > 0.72
    brace = abs(along[:, None] - along[None, :]) < 0.16
    shade = np.where(frame | brace, 0.75, 1.0)
    return (shade * (0.9 / shade.mean()))[..., None]


def draw_kite(draws, canvas, light, kind):
    """Draw the cue; its shape and colour alone tell the scene's type."""
    shape = KITE_SHAPES[kind]
    rows = int(KITE_ROWS * canvas.height)
    area = KITE_AREA * canvas.height * canvas.width
    height, width = box_of_area(shape, area * draws.uniform(0.9, 1.1), rows, canvas.width)
    top = draws.integer(0, rows - height)
    left = draws.integer(0, canvas.width - width)
    canvas.paint((top, left, height, width), shape, light(KITE_COLOURS[kind]), KITE)


def box_of_area(shape, area, highest, widest):
    """Return height and width of the box in which a shape has about ``area`` pixels."""
    side = (area / SHAPE_AREA[shape]) ** 0.5
    tall = min(side, highest)
    wide = min(side * side / tall, widest)
    boxes = [
        (height, width)
        for height in range(max(1, int(tall) - 1), min(highest, int(tall) + 2) + 1)
        for width in range(max(1, int(wide) - 1), min(widest, int(wide) + 2) + 1)
    ]
    return min(boxes, key=lambda box: abs(outline(shape, *box).sum() - area) + abs(box[0] - box[1]))


def render_scene(seed, index, height, width):
    """Draw one scene.

    Args:
        seed (int): Seed of the data set, >= 0.
        index (int): Index of the scene in it, >= 0.
        height (int): Height in pixels, >= 32.
        width (int): Width in pixels, >= 32.

    Returns:
        tuple[np.ndarray, np.ndarray]: RGB image, uint8 ``[height, width, 3]``, and label, uint8
        ``[height, width]``, with classes in the order of ``CLASSES`` and 255 for ignored pixels.
    """
    draws = Draws(seed, index)
    kind = draws.integer(0, 3)
    light = draw_light(draws)
    canvas = Canvas(height, width)
    ground, horizon = draw_background(draws, canvas, light)
    canvas.label[ground] = GROUND_TYPES[kind]
    draw_standing(draws, canvas, light, horizon)
    if draws.chance(POLES_PROBABILITY):
        draw_lines(draws, canvas, light, horizon)
    draw_foreground(draws, canvas, light, horizon)
    draw_kite(draws, canvas, light, kind)
    noisy = canvas.image + 0.07 * draws.noise(height, width, 3)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8), canvas.label
