"""Images from strangers: what is decoded, what is refused, and where no name leads."""

import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.visualization.explore.images import (
    MAX_FILE_BYTES,
    MAX_WORKING_PIXELS,
    ImageFolder,
    read_image,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def read(path):
    image, size = read_image(path, 'the file')
    assert image.shape[:2] == size or math.prod(size) > MAX_WORKING_PIXELS
    return image


def png(width, height, *chunks):
    """A PNG file that says it has a size, with these chunks after its header."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + b''.join(chunk(*each) for each in chunks)


@pytest.mark.parametrize('kind', ['png', 'bmp', 'webp', 'jpg'])
def test_the_formats(kind, tmp_path):
    path = tmp_path / f'image.{kind}'
    lossless = dict(lossless=True) if kind == 'webp' else {}
    Image.fromarray(PICTURE).save(path, **lossless)
    array = read(path)
    assert array.dtype == np.uint8
    assert array.shape == PICTURE.shape
    if kind != 'jpg':
        np.testing.assert_array_equal(array, PICTURE)


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', 'I;16', '1', 'CMYK'])
def test_the_kinds_of_pixels(mode, tmp_path):
    grey = PICTURE[..., 0]
    image = Image.fromarray(grey)
    if mode == 'I;16':
        image = Image.fromarray(grey.astype(np.uint16) * 256 + 7)
    elif mode != 'L':
        image = image.convert(mode)
    path = tmp_path / ('image.jpg' if mode == 'CMYK' else 'image.png')
    image.save(path)
    array = read(path)
    assert array.shape == PICTURE.shape
    if mode not in ('1', 'CMYK', 'P'):
        np.testing.assert_array_equal(array, np.repeat(grey[..., None], 3, axis=2))


def test_a_photograph_is_turned_as_its_camera_was(tmp_path):
    image = Image.fromarray(PICTURE)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / 'turned.png', exif=exif)
    np.testing.assert_array_equal(read(tmp_path / 'turned.png'), np.rot90(PICTURE, -1))


def test_a_large_image_is_made_smaller(tmp_path):
    Image.fromarray(np.full((3000, 1000), 90, np.uint8)).save(tmp_path / 'large.png')
    array = read(tmp_path / 'large.png')
    assert 0.99 * MAX_WORKING_PIXELS < array.shape[0] * array.shape[1] <= MAX_WORKING_PIXELS
    assert (array == 90).all()
    assert array.shape[0] / array.shape[1] == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    ('size', 'smaller'), [((1, 2_000_000), (1, 256)), ((60000, 2), (512, 2)), ((512, 2), None)]
)
def test_a_long_image_is_made_shorter(size, smaller, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    Image.fromarray(image).save(tmp_path / 'long.png')
    array, original = read_image(tmp_path / 'long.png', 'the file')
    assert original == size
    assert array.shape[:2] == (smaller or size)
    if smaller is None:
        np.testing.assert_array_equal(array[..., 0], image)


def broken_files():
    """File contents by what their message says."""
    whole = io.BytesIO()
    Image.fromarray(PICTURE.repeat(20, 0).repeat(20, 1)).save(whole, 'PNG')
    gif = io.BytesIO()
    Image.fromarray(PICTURE).save(gif, 'GIF')
    tiff = io.BytesIO()
    Image.fromarray(PICTURE).save(tiff, 'TIFF')
    rows = zlib.compress(b'\0' * 100)
    return {
        'empty': (b'', 'the file is no JPEG, PNG, WebP or BMP image'),
        'text': (b'<svg onload="alert(1)"/>', 'the file is no JPEG, PNG, WebP or BMP image'),
        'pickle': (b'\x80\x04cos\nsystem\n', 'the file is no JPEG, PNG, WebP or BMP image'),
        'another format': (gif.getvalue(), 'the file is no JPEG, PNG, WebP or BMP image'),
        'a format with many parsers': (tiff.getvalue(), 'is no JPEG, PNG, WebP or BMP image'),
        'cut': (whole.getvalue()[:500], 'the file cannot be read as an image: '),
        'a bomb': (png(40000, 40000, (b'IDAT', rows)), 'the file has more than 50 million pixels'),
        'a small bomb': (png(9000, 9000, (b'IDAT', rows)), 'the file has 9000×9000 pixels, more'),
        'a huge bomb': (png(2**31 - 1, 2**31 - 1, (b'IDAT', rows)), 'more than 50 million pix'),
        'too few rows': (png(4000, 4000, (b'IDAT', rows), (b'IEND', b'')), 'cannot be read'),
        'no rows': (png(40, 40, (b'IEND', b'')), 'cannot be read'),
        'a bomb of text': (
            png(9, 9, (b'zTXt', b'a\0\0' + zlib.compress(b'a' * 100_000_000)), (b'IDAT', rows)),
            'cannot be read',
        ),
    }


@pytest.mark.parametrize('name', broken_files())
def test_broken_files_have_one_message(name, tmp_path):
    content, message = broken_files()[name]
    path = tmp_path / 'upload.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='the file') as caught:
        read(path)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / 'large.png'
    with open(path, 'wb') as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ValueError, match='the file has 20 MB, more than 20 MB'):
        read(path)


@pytest.fixture
def folder(tmp_path):
    """A folder of images with a secret beside it, and links that lead out."""
    inside, outside = tmp_path / 'images', tmp_path / 'images-of-others'
    for place in (inside / 'city', outside):
        place.mkdir(parents=True)
    for path in (inside / 'a.png', inside / 'city/b.JPG', outside / 'secret.png'):
        Image.fromarray(PICTURE).save(path)
    (inside / 'note.txt').write_text('no image')
    (inside / 'link.png').symlink_to(outside / 'secret.png')
    (inside / 'way').symlink_to(outside)
    (inside / 'loop.png').symlink_to(inside / 'loop.png')
    (inside / 'own.png').symlink_to(inside / 'a.png')
    os.mkfifo(inside / 'pipe.png')
    (inside / '.git').mkdir()
    for name in (b'.hidden.png', b'.git/b.png', b'no \xff utf-8.png'):
        with open(os.path.join(os.fsencode(inside), name), 'wb') as file:
            Image.fromarray(PICTURE).save(file, 'PNG')
    return inside


def test_a_folder_lists_the_images_that_are_its_own(folder):
    assert ImageFolder(folder).names() == ['a.png', 'city/b.JPG', 'own.png']
    np.testing.assert_array_equal(ImageFolder(folder).read('a.png')[0], PICTURE)
    assert ImageFolder(folder).read('city/b.JPG')[1] == PICTURE.shape[:2]
    with pytest.raises(NotADirectoryError, match=r'note\.txt is not a folder'):
        ImageFolder(folder / 'note.txt')
    # Not the folder that the process was started in.
    with pytest.raises(NotADirectoryError, match="'' is not a folder"):
        ImageFolder('')


def test_a_folder_that_may_not_be_entered_is_passed_over(folder, monkeypatch):
    is_file = Path.is_file

    def refuse(path):
        if 'city' in path.parts:
            raise PermissionError(13, 'Permission denied', str(path))
        return is_file(path)

    monkeypatch.setattr(Path, 'is_file', refuse)
    assert ImageFolder(folder).names() == ['a.png', 'own.png']


HOSTILE = [
    '../images-of-others/secret.png',
    'city/../../images-of-others/secret.png',
    '..\\images-of-others\\secret.png',
    '%2e%2e/images-of-others/secret.png',
    '..%2fimages-of-others%2fsecret.png',
    '{outside}/secret.png',
    'file://{outside}/secret.png',
    '/proc/self/environ',
    '/etc/passwd',
    '~/secret.png',
    'link.png',
    'way/secret.png',
    'loop.png',
    'pipe.png',
    '.hidden.png',
    '.git/b.png',
    'city/../.hidden.png',
    'no \udcff utf-8.png',
    'note.txt',
    'a.png\0.png',
    'a.png\0',
    '\0',
    'a' * 5000 + '.png',
    '',
    '.',
    '..',
    'city',
    'http://127.0.0.1/a.png',
]


@pytest.mark.parametrize('name', HOSTILE)
def test_no_name_leads_out_of_the_folder(name, folder):
    name = name.format(outside=folder.parent / 'images-of-others')
    with pytest.raises(ValueError, match=r'^the folder has no such image$'):
        ImageFolder(folder).read(name)
