"""Export a trained model to ONNX, checked against PyTorch in onnxruntime."""

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.export import export_onnx
from mmseg_ctx.utils.commandline import ArgumentParser, add_cfg_options, integer, run
from mmseg_ctx.utils.files import check_writable

DESCRIPTION = """\
Export a trained model to ONNX: image [B, 3, H, W] to logits [B, N, H, W], whole images.

The file is written once onnxruntime gives the logits that PyTorch gives, within 1e-3, and the same
label on 99.9 % of the pixels.A model that cannot be exported with --dynamic
is refused. With Swin, --shape must have two windows or more at the coarsest stage: 256 x 256, or
416 x 416 where a window's side is 12.
"""
EXAMPLE = """\
example:
  python tools/export_onnx.py configs/dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py \\
      work_dirs/dmnet/iter_1000.pth dmnet.onnx --shape 512 512 --dynamic --normalize
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its weights')
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
        help='images of any size in batches of any size; checked at three sizes in two batch sizes',
    )
    parser.add_argument(
        '--opset', type=integer(1), metavar='N', help="18 to 26; default: PyTorch's choice"
    )
    parser.add_argument(
        '--normalize',
        action='store_true',
        help="the graph reads images of 0 to 255, in the channel order of the config's data "
        'preprocessor, and normalises them itself',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT.onnx')
    add_cfg_options(parser)
    options = parser.parse_args(arguments)
    check_writable(options.out, options.force)
    segmentor = load_segmentor(options.config, options.checkpoint, options.cfg_options)
    agreements = export_onnx(
        segmentor,
        options.out,
        options.shape,
        options.dynamic,
        options.opset,
        options.normalize,
        options.force,
    )
    print('\n'.join(map(str, agreements)))


if __name__ == '__main__':
    run(main)
