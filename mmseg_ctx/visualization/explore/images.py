"""Images from strangers: decoded as images and nothing else, within limits of size."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmseg_ctx.utils.errors import one_line

FORMATS = {'JPEG': ('.jpg', '.jpeg'), 'PNG': ('.png',), 'WEBP': ('.webp',), 'BMP': ('.bmp',)}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_FILE_BYTES = 20 * 1024**2
MAX_PIXELS = 50_000_000
"""Pixels of an image that is decoded; an image of 8 bits a channel then takes 150 MB."""
MAX_WORKING_PIXELS = 1024**2
"""Pixels of an image that a model is given; a larger image is made smaller first."""


def read_image(path, name):
    """Decode an image file, and make the image smaller where it has too many pixels.

    Args:
        path (Path): The file.
        name (str): What messages call it.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: RGB, uint8 ``[H, W, 3]``, turned as the file's EXIF data
        says, and the height and width that it had in the file.

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
            # Pillow warns of sizes that are allowed here.
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
        # A decoder may raise anything for a file that was made to confuse it.
        raise ValueError(f'{name} cannot be read as an image: {one_line(error)}') from error


class _TooLargeError(Exception):
    """What a file has too much of."""


def _decode(image):
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _TooLargeError(f'{width}×{height} pixels, more than {MAX_PIXELS // 10**6} million')
    if image.mode.startswith('I'):
        # Of 16 bits Pillow would turn all but the darkest into white.
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    image = ImageOps.exif_transpose(image).convert('RGB')
    shrink = (MAX_WORKING_PIXELS / (width * height)) ** 0.5
    if shrink < 1:
        # A side of one pixel is made no shorter, so the other one must be.
        size = [max(1, min(int(side * shrink), MAX_WORKING_PIXELS)) for side in image.size]
        return np.asarray(image.resize(size)), image.size[::-1]
    return np.asarray(image), image.size[::-1]


def _is_shown(name):
    """Whether a part of a path is not hidden, and made of Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python's way to hold bytes that are no UTF-8
        return False
    return not name.startswith('.')


class ImageFolder:
    """The images below a folder, by names that cannot lead out of it.

    Hidden files and folders are left out, and so are names that are no UTF-8, which no page can
    show.

    Args:
        root (str | Path): The folder.

    Raises:
        NotADirectoryError: It is no folder.
    """

    def __init__(self, root):
        if root == '':  # Path('') would be the folder that the process was started in
            raise NotADirectoryError("'' is not a folder")
        if not Path(root).is_dir():
            raise NotADirectoryError(f'{root} is not a folder')
        self.root = Path(root).resolve()

    def names(self):
        """Return the images' paths below the folder, sorted, with slashes between their parts."""
        paths = filter(self._has, self.root.rglob('*'))
        return sorted(path.relative_to(self.root).as_posix() for path in paths)

    def _has(self, path):
        """Whether a path is that of an image file which lies in the folder, links followed."""
        return (
            path.suffix.lower() in SUFFIXES
            and path.is_relative_to(self.root)
            and all(map(_is_shown, path.relative_to(self.root).parts))
            and path.is_file()
            and path.resolve().is_relative_to(self.root)
        )

    def read(self, name):
        """Decode one of the images, see :func:`read_image`.

        Raises:
            ValueError: The name leads to no image in the folder, or the file cannot be read.
        """
        path = self.root / name
        try:
            inside = self._has(path)
        except (OSError, ValueError):  # a name that is too long, or has a null byte
            inside = False
        if not inside:
            raise ValueError('the folder has no such image')
        return read_image(path, path.name)
