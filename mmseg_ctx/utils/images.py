"""Read image files completely."""

import io

from mmengine import fileio
from PIL import Image, UnidentifiedImageError

from mmseg_ctx.utils.errors import one_line


def read_image(path, backend_args=None):
    """Decode an image file completely.

    Unlike OpenCV, it refuses a file that ends early, instead of filling the rest with grey.

    Args:
        path (str): The file.
        backend_args (dict | None): Arguments of MMEngine's file backend. Default: None.

    Returns:
        PIL.Image.Image: The image.

    Raises:
        OSError: The file is missing or empty, is no image that Pillow reads, or ends early.
    """
    content = fileio.get(path, backend_args)
    if not content:
        raise OSError('no image')
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def reason(error):
    """Return why an image cannot be read, on one line and without the file's name."""
    if isinstance(error, UnidentifiedImageError):
        return 'no image'
    return getattr(error, 'strerror', None) or one_line(error) or type(error).__name__
