"""Read every image and label of a config's data set before training on it."""

import sys
from pathlib import Path

from mmseg_ctx.analysis.dataset_check import check_dataset, draw_frequencies, frequency_table
from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_cfg_options,
    integer,
    picture,
    progress_bar,
    run,
)
from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.files import check_folder, check_writable, write_figure, writing
from mmseg_ctx.utils.tables import render

DESCRIPTION = """\
Read every image and label of a data set through the config's own data set class. The tool lists
each bad file: a file that cannot be read, an image and a label of different sizes, label values
that are no class, a label without a labelled pixel. Then it shows the frequency of each class as a
table and as a picture.

The exit status is 0 if all files are good, 1 if a file is bad, 2 if the check could not run.
"""
EXAMPLE = """\
example:
  python tools/check_dataset.py configs/dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py --workers 4
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', help='config with the data set')
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='train',
        help='split to read; default: train',
    )
    parser.add_argument(
        '--workers', type=integer(0), default=0, metavar='N', help='processes that read; default: 0'
    )
    parser.add_argument(
        '--out',
        type=picture,
        metavar='PNG',
        help='picture to write; default: work_dirs/check_dataset/CONFIG_SPLIT.png, which replaces '
        'the picture of an earlier check',
    )
    parser.add_argument('--force', action='store_true', help='overwrite PNG')
    add_cfg_options(parser)
    arguments = parser.parse_args(arguments)
    return check(**vars(arguments))


def check(config, split, workers, out, force, cfg_options):
    if out is not None:
        check_writable(out, force)
    loader = f'{split}_dataloader'
    settings = read_config(config, f'{loader}.dataset', overrides=cfg_options)
    dataset = settings[loader].dataset
    if out is None:  # the default path, where the tool replaces the picture of an earlier check
        out = Path('work_dirs/check_dataset', f'{Path(config).stem}_{split}.png')
        check_folder(out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        force = True
    with writing(out, force) as temporary:
        with progress_bar() as bar:
            task = bar.add_task(split, total=None)

            def progress(done, total):
                bar.update(task, completed=done, total=total)

            summary = check_dataset(dataset, workers, print, progress)
        if summary.has_labels:
            sys.stdout.write(render([frequency_table(summary)], 'text'))
        print(f'\n{summary.images:,} images, {summary.bad_files:,} bad files, picture: {out}')
        write_figure(draw_frequencies(summary), temporary, dpi=150)
    return 1 if summary.bad_files else 0


if __name__ == '__main__':
    run(main)
