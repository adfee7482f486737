"""Write one whole config that trains on a folder of images and a folder of labels."""

from argparse import ArgumentTypeError
from pathlib import Path

import torch

from mmseg_ctx.datasets.folders import (
    Pair,
    Split,
    find_lists,
    find_splits,
    listed_pairs,
    pair_files,
    split_pairs,
)
from mmseg_ctx.datasets.label_files import (
    CLASS_FILES,
    decide_encoding,
    frequencies,
    palette_of,
    read_classes,
    read_labels,
    write_labels,
)
from mmseg_ctx.datasets.new_config import BACKBONES, CHOICES, config_text, list_files, make_plan
from mmseg_ctx.utils.commandline import ArgumentParser, integer, progress_bar, run
from mmseg_ctx.utils.files import check_writable, writing

DESCRIPTION = """\
Look at a folder of images and labels, read every label once, and write one whole config that
trains. The config inherits nothing and needs no class for the data.

DATA has images/ and labels/, with or without train/, val/ and test/ in or around them; other names
are given by --images and --labels. An image and its label have the same name, but for the suffix.
Where there is no validation split, neither a folder nor lists such as train.txt and val.txt, some
images are drawn and written down.

Labels are read as they are where MMSegmentation can. Colours, masks of 0 and 255, and other values
are written anew, beside the config, as PNGs of class indices.
"""
EXAMPLE = """\
examples:
  python tools/new_config.py data/mine --out my_cac.py --classes classes.txt
  python tools/new_config.py data/camvid --out camvid.py --images '{split}' \\
      --labels '{split}annot' --ignore 11
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('data', type=Path, metavar='DATA', help='folder of images and labels')
    parser.add_argument('--out', type=Path, required=True, metavar='CONFIG', help='file to write')
    parser.add_argument('--method', choices=CHOICES, default='cac-fcn', help='default: cac-fcn')
    parser.add_argument('--backbone', choices=BACKBONES, default='lite0', help='default: lite0')
    parser.add_argument(
        '--no-pretrained', dest='pretrained', action='store_false', help='train from scratch'
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help="a class on each line: 'NAME', 'NAME R G B' or 'NAME, VALUE'; or JSON; by default a "
        f'file in DATA ({", ".join(CLASS_FILES)}), or numbers',
    )
    parser.add_argument(
        '--ignore',
        type=label_value,
        nargs='+',
        action='extend',
        default=[],
        metavar='VALUE',
        help='label values, or colours as R,G,B, of pixels without a class; 255 always is one',
    )
    for kind in ('images', 'labels'):
        parser.add_argument(
            f'--{kind}', metavar='FOLDER', help=f"folder of {kind} in DATA, as '{kind}/{{split}}'"
        )
    for kind in ('image', 'label'):
        parser.add_argument(f'--{kind}-suffix', metavar='END', help=f"end of {kind} files' names")
    for split in ('train', 'val', 'test'):
        parser.add_argument(
            f'--{split}', metavar='NAME', help=f'name of the split; default: {split}'
        )
    parser.add_argument(
        '--only-pairs', action='store_true', help='leave out files without a partner'
    )
    parser.add_argument(
        '--val-share', type=share, default=0.2, metavar='S', help='drawn images; default: 0.2'
    )
    parser.add_argument('--seed', type=integer(0), default=0, help='of that draw; default: 0')
    parser.add_argument(
        '--for',
        dest='device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='what will train: for a CPU, images are made smaller; default: what PyTorch finds',
    )
    parser.add_argument('--batch-size', type=integer(2), default=8, metavar='N', help='default: 8')
    parser.add_argument('--iterations', type=integer(1), metavar='N', help='length of training')
    parser.add_argument('--force', action='store_true', help='overwrite files')
    return new_config(**vars(parser.parse_args(arguments)))


def label_value(text):
    parts = text.split(',')
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise ArgumentTypeError(f'must be a label value, or a colour as R,G,B, got {text!r}')
    return int(text) if len(parts) == 1 else tuple(map(int, parts))


def share(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f'must be a number between 0 and 1, got {text!r}')
    return value


def new_config(data, out, classes, device, force, **options):
    check_writable(out, force)
    if not data.is_dir():
        raise NotADirectoryError(f'{data} is not a folder')
    stem = out.with_suffix('')
    names, keys = read_names(data, classes)
    splits = read_splits(data, options)
    with progress_bar() as bar:
        task = bar.add_task('labels', total=None)
        labels = read_labels(
            splits.values(), lambda done, total: bar.update(task, completed=done, total=total)
        )
    encoding = decide_encoding(labels, names, keys, options['ignore'])
    if encoding.indices is not None:
        splits = convert(splits, Path(f'{stem}_labels'), encoding, force)
    listed = {name: (split, list_files(split, f'{stem}_{name}')) for name, split in splits.items()}
    plan = make_plan(
        labels.sizes,
        len(splits['train'].pairs),
        device == 'cpu',
        options['batch_size'],
        options['iterations'],
    )
    method, backbone = options['method'], options['backbone']
    numbers = ', '.join(f'{len(split.pairs)} {name}' for name, split in splits.items())
    text = config_text(
        method,
        backbone,
        options['pretrained'],
        listed,
        encoding,
        palette_of(labels, keys, len(encoding.classes)),
        frequencies(labels, encoding),
        plan,
        f'{method} on {backbone} for the images in {data}: {numbers}.',
    )
    for _, parts in listed.values():
        for _, path, file_names in parts:
            if path:
                with writing(path, force) as temporary:
                    temporary.write_text(''.join(f'{name}\n' for name in file_names))
    with writing(out, force) as temporary:
        temporary.write_text(text)
    print_summary(out, numbers, encoding, plan)
    return 0


def read_names(data, path):
    """Return names and colours of the classes, from a file that is given or lies in ``data``."""
    if path is None:
        path = next((data / name for name in CLASS_FILES if (data / name).is_file()), None)
    if path is None:
        return None, None
    print(f'classes: {path}')
    return read_classes(path)


def read_splits(data, options):
    """Return the splits with their pairs, as folders or lists have them; or draw the validation."""
    split_names = {name: options[name] for name in ('train', 'val', 'test')}
    folders = find_splits(data, options['images'], options['labels'], split_names)
    lists = find_lists(data) if 'all' in folders else {}
    only_pairs = options['only_pairs'] or bool(lists)
    suffixes = options['image_suffix'], options['label_suffix']
    splits = {
        name: Split(*places, pair_files(*places, *suffixes, only_pairs))
        for name, places in folders.items()
    }
    if 'val' in splits:
        return splits
    whole = splits.pop('train', None) or splits.pop('all')
    if lists:
        print(f'splits: {", ".join(map(str, lists.values()))}')
        parts = {name: listed_pairs(whole.pairs, path) for name, path in lists.items()}
    else:
        drawn = split_pairs(whole.pairs, options['val_share'], options['seed'])
        parts = dict(zip(('train', 'val'), drawn, strict=True))
    return splits | {name: Split(whole.images, whole.labels, part) for name, part in parts.items()}


def convert(splits, folder, encoding, force):
    """Write all labels anew, and return the splits with the new ones."""
    if folder.exists() and not force:
        raise FileExistsError(f'{folder} exists; --force overwrites its labels')
    result = {}
    with progress_bar() as bar:
        task = bar.add_task('new labels', total=sum(len(each.pairs) for each in splits.values()))
        for name, split in splits.items():
            place = folder / name
            write_labels(split, place, encoding.indices, lambda: bar.advance(task))
            pairs = [Pair(pair.name, pair.image_suffix, '.png') for pair in split.pairs]
            result[name] = Split(split.images, place, pairs)
    print(f'{folder}: labels as MMSegmentation reads them, written anew from yours')
    return result


def print_summary(out, numbers, encoding, plan):
    height, width = plan.crop_size
    ignored = 'label 0' if encoding.reduce_zero_label else f'label {encoding.ignore_index}'
    gpus = ' --gpus 0' if plan.for_cpu else ''
    weights = f'work_dirs/{out.stem}/iter_{plan.iterations}.pth'
    print(
        f'{out}: {numbers} images, {len(encoding.classes)} classes, {ignored} is ignored\n'
        f'{plan.iterations} iterations of {plan.batch_size} crops of {width}×{height} pixels from '
        f'images of {plan.scale[0]}×{plan.scale[1]}\n'
        '\n'
        f'python tools/check_dataset.py {out}\n'
        # A thread that waits spins, and takes time from the threads that work.
        f'OMP_WAIT_POLICY=passive mim train mmseg {out}{gpus}\n'
        f'mim test mmseg {out} --checkpoint {weights}{gpus}\n'
        f'python tools/explore.py {out} {weights}'
    )


if __name__ == '__main__':
    run(main)
