"""Read every image and label of a config's data set before training on it."""

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

DESCRIPTION = """\
Read every image and label of a data set through the config's own data set class. The tool lists
each bad file: a file that cannot be read, an image and a label of different sizes, label values
that are no class, a label without a labelled pixel. It names settings that do not fit the labels:
reduce_zero_label, and num_classes of a head. Then it shows the frequency of each class as a table
and as a picture.

The exit status is 0 if all is good, 1 if a file or setting is not, 2 if the check could not run.
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
        wrong_heads = list(heads_for_other_classes(settings.get('model'), summary.classes))
        for line in wrong_heads:
            print(line)
        if summary.has_labels:
            print(frequency_table(summary))
        print(f'\n{summary.images:,} images, {summary.bad_files:,} bad files, picture: {out}')
        write_figure(draw_frequencies(summary), temporary, dpi=150)
    return 1 if summary.bad_files or summary.wrong_settings or wrong_heads else 0


def heads_for_other_classes(part, classes, name='model'):
    """Yield a line for each head in a model's config whose number of classes is another."""
    items = part.items() if isinstance(part, dict) else ()
    if isinstance(part, list):
        items = enumerate(part)
    for key, value in items:
        if key == 'num_classes' and 'head' in name and value != len(classes):
            yield f'{name}.num_classes is {value}, and the data set has {len(classes)} classes'
        yield from heads_for_other_classes(value, classes, f'{name}.{key}')


if __name__ == '__main__':
    run(main)
