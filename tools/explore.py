"""Serve a page that shows what a model does with an image, pixel by pixel."""

import os
import tempfile
from pathlib import Path
from unittest import mock

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_cfg_options,
    add_device,
    integer,
    progress_bar,
    run,
)
from mmseg_ctx.utils.errors import needs_extra
from mmseg_ctx.visualization.explore.explorer import Explorer, find_images

DESCRIPTION = """\
Serve a page that shows what a model does with an image, pixel by pixel. Open the printed address in
a browser, and stop the tool with Ctrl-C.

Choose an image from the config's test data, from a folder or by upload, and click a pixel. The page
shows the most probable classes of the pixel, and the context that the method used there. For a
decode head that is no method of this package it shows how sure the model is.

By default only this machine can reach the page. With another --host, everyone who can reach the
page can see the images in DIR and the test data.
"""
EXAMPLE = """\
example:
  python tools/explore.py configs/dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py \\
      work_dirs/demo/dmnet/iter_600.pth
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint with the weights')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at (default: 127.0.0.1)'
    )
    parser.add_argument(
        '--port', type=integer(1), default=7860, help='port to listen at (default: 7860)'
    )
    parser.add_argument('--images', metavar='DIR', help='folder of images to choose from')
    add_device(parser)
    add_cfg_options(parser)
    options = parser.parse_args(arguments)
    # Gradio makes a folder when it is imported.
    with (
        tempfile.TemporaryDirectory(prefix='mmseg-ctx-') as folder,
        mock.patch.dict(os.environ, GRADIO_TEMP_DIR=folder),
    ):
        explore(options)


def explore(options):
    # These checks are quick, so they come before the model is loaded.
    images = [] if options.images is None else find_images(options.images)
    with needs_extra('explore'):
        from mmseg_ctx.visualization.explore.page import require_free, serve
    require_free(options.host, options.port)
    with progress_bar() as bar:
        bar.add_task('loading the model', total=None)
        segmentor = load_segmentor(
            options.config, options.checkpoint, options.cfg_options, options.device
        )
        explorer = Explorer(segmentor)
    serve(explorer, Path(options.config).stem, images, options.host, options.port)


if __name__ == '__main__':
    run(main)
