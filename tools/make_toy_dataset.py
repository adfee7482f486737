"""Write a tiny data set in the layout of a public data set, to try the configs for it."""

from mmseg_ctx.datasets.toy import LAYOUTS, make_toy_dataset
from mmseg_ctx.utils.commandline import ArgumentParser, integer, run

EXAMPLE = """example:
  python tools/make_toy_dataset.py pascal_voc12_aug data/VOCdevkit/VOC2012
  mim train mmseg configs/dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py
"""


def main(arguments):
    parser = ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument(
        'layout', choices=sorted(LAYOUTS), help='public data set that has the layout'
    )
    parser.add_argument('out', help='new folder, the data_root of a config')
    parser.add_argument(
        '--images', type=integer(1), default=4, metavar='N', help='images in each split; default: 4'
    )
    parser.add_argument(
        '--size',
        type=integer(1),
        nargs=2,
        default=(64, 96),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels; default: 64 96',
    )
    parser.add_argument(
        '--seed',
        type=integer(0),
        default=0,
        metavar='N',
        help='seed of the random labels; default: 0',
    )
    options = parser.parse_args(arguments)
    out = make_toy_dataset(
        options.layout, options.out, options.images, tuple(options.size), options.seed
    )
    print(f'{options.layout}: {options.images} images in each split in {out}')


if __name__ == '__main__':
    run(main)
