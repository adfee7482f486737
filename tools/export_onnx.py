"""Export a trained model to ONNX and compare it with PyTorch; `--help` says more."""

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.export import export_onnx
from mmseg_ctx.utils.commandline import ArgumentParser, add_cfg_options, integer, run
from mmseg_ctx.utils.files import check_writable

DESCRIPTION = """\
Export a trained model to ONNX. The graph reads whole images [B, C, H, W] and gives logits
[B, N, H, W] or, with --labels, the classes of the pixels [B, H, W].

The tool writes the file if onnxruntime and PyTorch agree on random images: no logit may differ by
more than 1e-3, and 99.9 % of the pixels must get the same label. It refuses a model that cannot be
exported with --dynamic. With Swin, --shape must be at least two windows at the coarsest stage:
256 x 256, or 416 x 416 for windows of 12 x 12.
"""
EXAMPLE = """\
example:
  python tools/export_onnx.py \\
      configs/dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py \\
      work_dirs/demo/dmnet/iter_600.pth dmnet.onnx --shape 128 128 --dynamic --normalize --labels
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint with the weights')
    parser.add_argument('out', metavar='OUT.onnx', help='file to write')
    parser.add_argument(
        '--shape',
        type=integer(1),
        nargs=2,
        required=True,
        metavar=('H', 'W'),
        help='height and width of the images, in pixels',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='export for images of any size in batches of any size; the tool compares three sizes '
        'in two batch sizes',
    )
    parser.add_argument(
        '--opset',
        type=integer(1),
        metavar='N',
        help="version of ONNX's operators, 18 to 26; default: PyTorch's choice",
    )
    parser.add_argument(
        '--normalize',
        action='store_true',
        help='put the normalisation into the graph, which then reads images of 0 to 255 in the '
        "channel order that the config's data preprocessor reads",
    )
    parser.add_argument(
        '--labels',
        action='store_true',
        help='end the graph in the label map (Resize and ArgMax, int64), so that a server needs no '
        'code after it',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT.onnx')
    add_cfg_options(parser)
    options = parser.parse_args(arguments)
    check_writable(options.out, options.force, [options.config, options.checkpoint])
    segmentor = load_segmentor(options.config, options.checkpoint, options.cfg_options)
    agreements = export_onnx(
        segmentor,
        options.out,
        options.shape,
        options.dynamic,
        options.opset,
        options.normalize,
        options.force,
        options.labels,
    )
    print('\n'.join(map(str, agreements)))


if __name__ == '__main__':
    run(main)
