"""Read the labels of any folder: which values they have, what these mean, how often each occurs.

MMSegmentation reads labels of one class index a pixel, and 255 for no class. It can also ignore
label 0, or another one. Colours, or 0 and 255, have to be written anew.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from PIL import ExifTags, Image

from mmseg_ctx.evaluation.voc_results import voc_palette
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.images import read_image, reason

CLASS_FILES = (
    *('classes.txt', 'class_dict.csv', 'meta.json', 'classes.json', 'labelmap.txt'),
    'label_colors.txt',
)
"""Usual names of files with the classes, see :func:`read_classes`."""


@dataclass
class Labels:
    """What the labels have: pixels of each value or (R, G, B), image sizes, palette of a PNG."""

    pixels: Counter = field(default_factory=Counter)
    sizes: list = field(default_factory=list)
    palette: list | None = None
    has_channels: bool = False


@dataclass
class Encoding:
    """What label values mean.

    Attributes:
        classes (list[str]): Names.
        reduce_zero_label (bool): Whether label 0 is ignored and classes begin at 1.
        ignore_index (int): The label of pixels without a class.
        indices (dict | None): Class index of each value, where labels are to be written anew.
    """

    classes: list
    reduce_zero_label: bool = False
    ignore_index: int = IGNORED
    indices: dict | None = None


def read_labels(splits, progress=lambda done, total: None):
    """Read every label once.

    Args:
        splits (Iterable[Split]): Folders and pairs.
        progress (Callable[[int, int], None]): Called with the number of labels read and of all.

    Returns:
        Labels: Values and sizes.

    Raises:
        ValueError: A label has another size than its image, or is a JPEG file.
        OSError: A file cannot be read.
    """
    labels = Labels()
    pairs = [(split, pair) for split in splits for pair in split.pairs]
    for number, (split, pair) in enumerate(pairs, start=1):
        image_path = split.images / (pair.name + pair.image_suffix)
        label_path = split.labels / (pair.name + pair.label_suffix)
        path = image_path
        try:
            size = _size(path)
            path = label_path
            label = read_image(str(path))
        except Exception as error:
            raise OSError(f'{path} cannot be read: {reason(error)}') from error
        if label.format == 'JPEG':
            raise ValueError(f'{label_path} is a JPEG file, whose values are not exact: use PNG')
        if label.size != size:
            sizes = ['{}×{}'.format(*each) for each in (label.size, size)]
            raise ValueError(f'{label_path} is {sizes[0]} and its image {sizes[1]} pixels')
        if label.mode == 'P' and labels.palette is None:
            labels.palette = label.getpalette()
        labels.has_channels |= len(label.getbands()) > 1
        labels.sizes.append(size)
        labels.pixels.update(_count(label_values(label)))
        progress(number, len(pairs))
    colours = [key for key in labels.pixels if isinstance(key, tuple)]
    if all(len(set(colour)) == 1 for colour in colours):  # grey values stored as colours
        for colour in colours:
            labels.pixels[colour[0]] += labels.pixels.pop(colour)
    return labels


def _size(path):
    """Return an image's width and height as OpenCV reads it: turned as its EXIF data say."""
    with Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        return image.size[::-1] if turned else image.size


def label_values(image):
    """Return a label's values ``[H, W]``, or its colours ``[H, W, 3]`` without transparency."""
    values = np.asarray(image)
    if values.ndim == 3:
        return values[..., :3] if values.shape[2] > 2 else values[..., 0]
    return values.astype(np.int64)


def _count(values):
    if values.ndim == 2:
        found, counts = np.unique(values, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))
    codes = values.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    found, counts = np.unique(codes, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).tolist()
    return dict(zip(map(tuple, colours), counts.tolist(), strict=True))


def read_classes(path):
    """Read the names of classes and their colours or label values, if the file has them.

    A text file has a class in each line: ``NAME``; ``NAME R G B`` or ``R G B NAME``; or, with a
    comma, colon or tab, ``NAME, VALUE``. A JSON file has a list ``classes`` of names, or of
    objects with ``name`` or ``title`` and ``color``, and may have ``palette``.

    Args:
        path (Path): The file.

    Returns:
        tuple[list[str], list | None]: Names; (R, G, B) or label value of each, or None.

    Raises:
        ValueError: A name is twice in the file, or some classes alone have a colour.
    """
    with value_errors(f'{path} cannot be read as a file of classes'):
        text = path.read_text('utf-8-sig')
        entries = _json_classes(text) if path.suffix == '.json' else _text_classes(text)
    names = [name for name, _ in entries]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f'{path} has the class {twice[0]!r} twice')
    values = [value for _, value in entries]
    if len(names) < 1 or len({type(value) for value in values}) > 1:
        raise ValueError(f'{path} must have a name in each line, and each a colour or none')
    return names, None if values[0] is None else values


def _json_classes(text):
    content = json.loads(text)
    classes, palette = content, None
    if isinstance(content, dict):
        classes, palette = content.get('classes', content), content.get('palette')
    if isinstance(classes, dict):
        classes = [dict(name=name, color=colour) for name, colour in classes.items()]
    entries = []
    for index, each in enumerate(classes):
        each = {'name': each} if isinstance(each, str) else each
        colour = each.get('color', palette[index] if palette else None)
        if isinstance(colour, str):
            colour = bytes.fromhex(colour.removeprefix('#'))
        entries.append((each.get('name', each.get('title')), colour and tuple(colour)))
    return entries


def _text_classes(text):
    number = r'(\d{1,3})'
    colour = rf'{number}[,\s]+{number}[,\s]+{number}'
    entries = []
    for line in text.splitlines():
        line = line.strip().rstrip(':')
        if not line or line.startswith('#') or re.fullmatch(r'name\W+r\W+g\W+b', line, re.I):
            continue
        if match := re.fullmatch(rf'(.+?)[,:\s]+{colour}[,:\s]*', line):
            entries.append((match[1].strip(), tuple(map(int, match.groups()[1:]))))
        elif match := re.fullmatch(rf'{colour}[,:\s]+(.+)', line):
            entries.append((match[4].strip(), tuple(map(int, match.groups()[:3]))))
        elif match := re.fullmatch(r'(.+?)\s*[,:\t]\s*(\d+)', line):
            entries.append((match[1], int(match[2])))
        else:
            entries.append((line, None))
    return entries


def decide_encoding(labels, names=None, keys=None, ignore=()):
    """Say what the values of labels mean.

    Args:
        labels (Labels): What was read.
        names (list[str] | None): Names of the classes; None to number them.
        keys (list | None): Colour or value of each class in the labels, as the file of classes
            has them; None for 0, 1, 2, …, or from 1.
        ignore (Sequence): Values or colours of pixels without a class.

    Returns:
        Encoding: Classes and settings.

    Raises:
        ValueError: The values can be read in several ways, or have no class.
    """
    if not any(isinstance(key, tuple) for key in labels.pixels):  # grey values as colours, too
        ignore = [value[0] if isinstance(value, tuple) else value for value in ignore]
    found = labels.pixels.keys() - set(ignore)
    has_colours = any(isinstance(key, tuple) for key in found)
    # Values that only number the classes are as good as none, and so are colours of grey labels.
    numbered = keys is None or keys == list(range(len(keys)))
    if not numbered and has_colours == isinstance(keys[0], tuple):
        _refuse_unknown(labels, found - set(keys) - ({IGNORED} - set(ignore)))
    elif has_colours:
        example = ', '.join(str(key) for key in sorted(found, key=str)[:3])
        raise ValueError(
            f'the labels are colour images with {len(found)} colours, such as {example}: '
            "--classes FILE, with a line 'NAME R G B' for each class, says what they mean"
        )
    elif found == {0, IGNORED}:
        keys = [0, IGNORED]
        names = ['background', *(names or ['foreground'])] if len(names or ' ') == 1 else names
    else:
        from_zero = keys is not None and not isinstance(keys[0], tuple)
        keys = _grey_classes(sorted(found - {IGNORED}), names, set(ignore), from_zero)
    names = [str(key) for key in keys] if names is None else list(names)
    if len(names) != len(keys):
        raise ValueError(
            f'the labels have {len(keys)} classes, and the file of classes {len(names)}'
        )
    if len(names) < 2:
        raise ValueError(f'the labels have the value {keys[0]} alone; a model needs two classes')
    # What MMSegmentation reads itself: 0, 1, 2, … and one ignored label, or 1, 2, 3, …
    others = set(ignore) - {IGNORED}
    if not labels.has_channels:
        if keys == list(range(len(keys))) and not others:
            return Encoding(names)
        if keys == list(range(len(keys))) and len(others) == 1 and IGNORED not in labels.pixels:
            return Encoding(names, ignore_index=others.pop())
        if keys == list(range(1, len(keys) + 1)) and others <= {0}:
            return Encoding(names, reduce_zero_label=True)
    return Encoding(names, indices={key: index for index, key in enumerate(keys)})


def _refuse_unknown(labels, unknown):
    if unknown:
        worst = max(unknown, key=labels.pixels.get)
        share = 100 * labels.pixels[worst] / labels.pixels.total()
        shown = ','.join(map(str, worst)) if isinstance(worst, tuple) else worst
        raise ValueError(
            f'the label value {shown}, {share:.2g} % of the pixels, is no class: give it a line in '
            f'the file of classes, or --ignore {shown}'
        )


def _grey_classes(values, names, ignore, from_zero):
    """Return the label value of each class: from 0 or 1 on, without the ignored values.

    ``from_zero`` says that the file of classes numbers them so.
    """
    if not values:
        raise ValueError('the labels have no value but 255, which is ignored')
    first, last = values[0], values[-1]
    begin = int(0 in ignore or (first > 0 and last == len(names or range(last))))
    number = len(names) if names else last + 1 - begin
    if names and first == 0 and last == number and not ignore:
        raise ValueError(
            f'the labels have values from 0 to {last}, and there are {number} classes: --ignore 0 '
            f'if 0 is unlabelled, --ignore {last} if {last} is'
        )
    if names and first > 0 and last < number and not (from_zero or ignore & {0, IGNORED}):
        raise ValueError(
            f'no label has the value 0 or {number}, and there are {number} classes: --ignore 0 if '
            f'the first class is 1, --ignore {IGNORED} if it is 0'
        )
    keys = list(range(begin, begin + number))
    if ignore & set(keys):
        return values
    question = "--classes FILE, with a line 'NAME, VALUE' for each class, says what they mean"
    if last not in keys or last > 254:
        known = f', and there are {number} classes' if names else ''
        raise ValueError(f'the labels have values up to {last}{known}: {question}')
    if not names and len(values) <= (last + 1) / 2 and last > 3:
        shown = ', '.join(map(str, values[:6]))
        raise ValueError(f'the labels have {len(values)} values up to {last}: {shown}: {question}')
    return keys


def write_labels(split, folder, indices, progress=lambda: None):
    """Write the labels of a split as PNGs of class indices, 255 for all other values."""
    for pair in split.pairs:
        values = label_values(read_image(str(split.labels / (pair.name + pair.label_suffix))))
        result = np.full(values.shape[:2], IGNORED, np.uint8)
        for key, index in indices.items():
            same = values == key
            if values.ndim == 3:
                same = same.all(axis=2)
            result[same] = index
        path = folder / f'{pair.name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(result).save(path)
        progress()


def frequencies(labels, encoding):
    """Return the share of each class among the labelled pixels, float64 ``[N]``."""
    begin = int(encoding.reduce_zero_label)
    keys = encoding.indices or range(begin, begin + len(encoding.classes))
    pixels = np.array([labels.pixels[key] for key in keys], float)
    return pixels / max(pixels.sum(), 1)


def palette_of(labels, keys, number):
    """Return a colour for each class: of the classes' file, of the labels' palette, or VOC's."""
    if keys and isinstance(keys[0], tuple):
        return [list(key) for key in keys]
    own = np.reshape(labels.palette or [], (-1, 3)).tolist()
    is_grey = all(len(set(colour)) == 1 for colour in own[:number])
    return own[:number] if number <= len(own) and not is_grey else voc_palette()[:number]
