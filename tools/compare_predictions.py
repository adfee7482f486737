"""Compare the predictions of several models on one test set; `--help` says more."""

from argparse import ArgumentTypeError
from pathlib import Path

from mmengine.logging import MMLogger

from mmseg_ctx.utils.commandline import ArgumentParser, integer, picture, run
from mmseg_ctx.utils.files import write_figure, writing
from mmseg_ctx.utils.tables import render
from mmseg_ctx.visualization.comparison import compare_predictions

DESCRIPTION = """\
Compare the predictions of several models on one test set: print the mean IoU of each model over all
classes and over each group of classes, and draw images, ground truth and predictions side by side.

`mim test ... --out FOLDER` writes the predictions.
"""
EXAMPLE = """\
example:
  mim test mmseg CONFIG --checkpoint FCN.pth --gpus 0 --out work_dirs/demo/fcn/predictions
  mim test mmseg CONFIG --checkpoint DMNET.pth --gpus 0 --out work_dirs/demo/dmnet/predictions
  python tools/compare_predictions.py CONFIG --out work_dirs/demo/scenes.png \\
      --predictions FCN=work_dirs/demo/fcn/predictions DMNet=work_dirs/demo/dmnet/predictions
"""


def parse(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', help='config with the test data set and its evaluator')
    parser.add_argument(
        '--predictions',
        nargs='+',
        action='extend',
        required=True,
        type=name_and_folder,
        metavar='NAME=FOLDER',
        help='name of a model, and folder of its predictions',
    )
    parser.add_argument(
        '--out', required=True, type=picture, metavar='FILE', help='picture to write'
    )
    parser.add_argument(
        '--images',
        type=integer(1),
        default=6,
        metavar='N',
        help='number of images in the picture; default: 6',
    )
    parser.add_argument(
        '--choose',
        choices=('spread', 'differ'),
        default='spread',
        help='draw images spread over the test set, or the images where the models differ most; '
        'default: spread',
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    arguments = parser.parse_args(arguments)
    names = [name for name, _ in arguments.predictions]
    for name in names:
        if names.count(name) > 1:
            parser.error(f'--predictions: names must differ, got {name!r} more than once')
    return arguments


def name_and_folder(text):
    """Argparse type of NAME=FOLDER: the name, and the path of the folder."""
    name, _, folder = text.partition('=')
    if not name or not Path(folder).is_dir() or not folder:
        raise ArgumentTypeError(f'must be NAME=FOLDER with a folder that exists, got {text!r}')
    return name, Path(folder)


def main(arguments):
    arguments = parse(arguments)
    MMLogger.get_current_instance().setLevel('WARNING')
    read = [path for _, folder in arguments.predictions for path in folder.iterdir()]
    with writing(arguments.out, arguments.force, read) as temporary:
        table, figure = compare_predictions(
            arguments.config, dict(arguments.predictions), arguments.images, arguments.choose
        )
        print(render([table], 'text'))
        write_figure(figure, temporary, dpi=150)
    print(f'picture: {arguments.out}')


if __name__ == '__main__':
    run(main)
