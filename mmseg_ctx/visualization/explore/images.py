"""Read images of unknown origin: only as images, and within limits of size."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmseg_ctx.utils.errors import one_line

FORMATS = {'JPEG': ('.jpg', '.jpeg'), 'PNG': ('.png',), 'WEBP': ('.webp',), 'BMP': ('.bmp',)}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_FILE_BYTES = 20 * 1024**2
MAX_PIXELS = 50_000_000
"""An image with more pixels is refused. With 8 bits a channel, this many take 150 MB."""
MAX_WORKING_PIXELS = 1024**2
"""An image with more pixels is made smaller before the model predicts it."""
MAX_ASPECT = 256
"""A longer side is shortened to this multiple of the other one.

Test pipelines that keep the aspect ratio would else leave no pixel of the shorter side.
"""


def read_image(path, name):
    """Decode an image file, and make the image smaller if it is too large or too long.

    Args:
        path (Path): The file.
        name (str): Name of the file in messages.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: RGB, uint8 ``[H, W, 3]``, rotated by the file's EXIF
        data; and height and width before the image was made smaller.

    Raises:
        ValueError: The file is too large, is no JPEG, PNG, WebP or BMP, is damaged, or has too many
            pixels. The message says which.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _TooLargeError(
                f'{size / 1024**2:.0f} MB, more than {MAX_FILE_BYTES // 1024**2} MB'
            )
        with warnings.catch_warnings():
            # Pillow warns about sizes that are allowed here.
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(FORMATS)) as image:
                return _decode(image)
    except _TooLargeError as error:
        raise ValueError(f'{name} has {error}') from None
    except Image.DecompressionBombError:
        raise ValueError(f'{name} has more than {MAX_PIXELS // 10**6} million pixels') from None
    except Image.UnidentifiedImageError:
        raise ValueError(f'{name} is no JPEG, PNG, WebP or BMP image') from None
    except Exception as error:
        # A decoder may raise any exception for a malicious file.
        raise ValueError(f'{name} cannot be read as an image: {one_line(error)}') from error


class _TooLargeError(Exception):
    """A file has too many bytes or pixels; the message says how many."""


def _decode(image):
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _TooLargeError(f'{width}×{height} pixels, more than {MAX_PIXELS // 10**6} million')
    if image.mode.startswith('I'):
        # From 16 bits, Pillow would turn all but the darkest values into white.
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    image = ImageOps.exif_transpose(image).convert('RGB')
    return np.asarray(image.resize(_working_size(*image.size))), image.size[::-1]


def _working_size(*sides):
    """Return the sides of the image that the model predicts, which has the limits of the module."""
    shrink = min(1, (MAX_WORKING_PIXELS / math.prod(sides)) ** 0.5)
    sides = [max(1, int(side * shrink)) for side in sides]
    return tuple(min(side, MAX_ASPECT * min(sides)) for side in sides)


def _is_shown(name):
    """Return whether a part of a path is not hidden and is valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python keeps bytes that are no UTF-8 as surrogates
        return False
    return not name.startswith('.')


class ImageFolder:
    """The images in a folder and its subfolders, read by names that cannot lead out of it.

    Hidden files and folders are left out. So are names that are no UTF-8, since no page can show
    them.

    Args:
        root (str | Path): The folder.

    Raises:
        NotADirectoryError: ``root`` is no folder.
    """

    def __init__(self, root):
        if root == '':  # Path('') is the current directory
            raise NotADirectoryError("'' is not a folder")
        if not Path(root).is_dir():
            raise NotADirectoryError(f'{root} is not a folder')
        self.root = Path(root).resolve()

    def names(self):
        """Return the images' paths relative to the folder, sorted, with ``/`` between parts."""
        paths = filter(self._has, self.root.rglob('*'))
        return sorted(path.relative_to(self.root).as_posix() for path in paths)

    def _has(self, path):
        """Return whether a path is an image file in the folder, also after links are followed."""
        try:
            return (
                path.suffix.lower() in SUFFIXES
                and path.is_relative_to(self.root)
                and all(map(_is_shown, path.relative_to(self.root).parts))
                and path.is_file()
                and path.resolve().is_relative_to(self.root)
            )
        # A folder that may be listed and not entered; a name that is too long, or has a null byte.
        except (OSError, ValueError):
            return False

    def read(self, name):
        """Decode the image of a name in :meth:`names`; see :func:`read_image`.

        Raises:
            ValueError: The folder has no image of this name, or the file cannot be read.
        """
        path = self.root / name
        if not self._has(path):
            raise ValueError('the folder has no such image')
        return read_image(path, path.name)
