"""Draw the context of a trained model, one sheet for each image."""

from pathlib import Path

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_cfg_options,
    add_device,
    progress_bar,
    run,
)
from mmseg_ctx.utils.errors import needs_extra
from mmseg_ctx.utils.files import check_folder, check_writable, write_figure, writing
from mmseg_ctx.visualization.context import draw_context
from mmseg_ctx.visualization.files import read_items

DESCRIPTION = """\
Draw the context of a trained model, one sheet for each image: the image, its ground truth if there
is one, the prediction, and what the head computed, such as the gates of ACNet or the filters of
DMNet. The page of each method in docs/methods/ shows one.
"""
EXAMPLE = """\
example:
  python tools/visualize_context.py \\
      configs/dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py \\
      work_dirs/demo/dmnet/iter_600.pth test:0 test:3 --out work_dirs/demo/dmnet/context
  python tools/visualize_context.py CONFIG CHECKPOINT street.jpg --labels street.png --out context
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint with the weights')
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGE',
        help="image file, or test:N for image N of the config's test data, counted from 0",
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the sheets')
    parser.add_argument(
        '--labels',
        nargs='+',
        action='extend',
        metavar='FILE',
        help="ground truth of each image file, in the format of the config's data set",
    )
    add_device(parser)
    parser.add_argument('--force', action='store_true', help='overwrite sheets that exist')
    add_cfg_options(parser)
    options = parser.parse_args(arguments)
    names = [Path(image.replace(':', '-')).stem for image in options.images]
    paths = [Path(options.out, f'{name}.png') for name in names]
    check_folder(options.out)
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f'images must differ in their names, but several would give {path}')
        if path.parent.is_dir():
            check_writable(path, options.force, (*options.images, *(options.labels or ())))
    segmentor = load_segmentor(
        options.config, options.checkpoint, options.cfg_options, options.device
    )
    items = read_items(segmentor.cfg, options.images, options.labels)
    with needs_extra('visualize'), progress_bar() as bar:
        sheets = bar.track(zip(items, paths, strict=True), len(paths), description='sheets')
        for item, path in sheets:
            figure = draw_context(segmentor, item, segmentor.dataset_meta)
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path, options.force) as temporary:
                write_figure(figure, temporary, dpi=120)
    print('\n'.join(map(str, paths)))


if __name__ == '__main__':
    run(main)
