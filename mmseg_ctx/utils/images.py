"""Image files, read to their end."""

import io

from mmengine import fileio
from PIL import Image, UnidentifiedImageError

from mmseg_ctx.utils.errors import one_line


def read_image(path, backend_args=None):
    """Return an image file, decoded whole.

    Args:
        path (str): The file.
        backend_args (dict | None): MMEngine's, of the place where the file lies. Default: None.

    Returns:
        PIL.Image.Image: The image.

    Raises:
        OSError: The file is missing, is empty, is no image that Pillow knows, or ends early, where
            OpenCV would give a picture with a grey rest.
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
