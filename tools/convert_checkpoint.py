"""Convert weights that a paper's authors released to a checkpoint of MMEngine."""

from mmseg_ctx.checkpoints.convert_cac import convert_cac
from mmseg_ctx.checkpoints.convert_ctnet import convert_ctnet
from mmseg_ctx.utils.commandline import ArgumentParser, run

EXAMPLE = """example:
  python tools/convert_checkpoint.py ctnet model.pdparams ctnet_r101v1d_jpu.pth
  python tools/convert_checkpoint.py cac iter_160000.pth cac-upernet_swin-t.pth \\
      --config configs/cac/cac-upernet_swin-t_8xb2-160k_ade20k-512x512.py
"""

CTNET = """Convert weights of CTNet's authors (PaddlePaddle, .pdparams), on ResNet50_vd or
ResNet101_vd, with JPU or dilated. The authors trained on RGB images with mean and deviation 127.5;
the config's data_preprocessor must have the same."""

CAC = """Convert checkpoints of CAC's authors (MMSegmentation 0.x): FCN, DeepLabV3+, UPerNet and
OCRNet."""


def main(arguments):
    parser = ArgumentParser(description=__doc__, epilog=EXAMPLE)
    commands = parser.add_subparsers(dest='command', required=True, metavar='{ctnet,cac}')
    for name, convert, description in (('ctnet', convert_ctnet, CTNET), ('cac', convert_cac, CAC)):
        command = commands.add_parser(
            name, help=' '.join(description.split()), description=description, epilog=EXAMPLE
        )
        command.add_argument('source', metavar='SRC', help='file to read; no code in it is run')
        command.add_argument('destination', metavar='DST', help='checkpoint to write')
        command.add_argument(
            '--config', help='config of the model; the tool then names missing and surplus weights'
        )
        command.add_argument('--force', action='store_true', help='overwrite DST')
        command.add_argument(
            '--partial',
            action='store_true',
            help='convert the matching weights, also if others are missing or left over',
        )
        command.set_defaults(convert=convert)
    options = parser.parse_args(arguments)
    conversion = options.convert(
        options.source, options.destination, options.config, options.force, options.partial
    )
    print('\n'.join(conversion.report()))


if __name__ == '__main__':
    run(main)
