"""Draw test scenes with what the exported files say of them, such as float, 8 bits, and a choice of widths.

    python picture.py tasks/exported/float "tasks/exported/uniform 8" tasks/exported/quant_caption_248

The captions are English: matplotlib has no Chinese letters. The network is the same; only the id it starts with differs.
"""
import argparse, textwrap
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt

from generate import EXAMPLE, Captioner, captions
from src.data import scenes


def draw(s, refs, said, which, columns=4):
    "Scenes, the first reference in grey, captions with a tick where they are one of the references."
    rows = -(-len(which)//columns)
    fig = plt.figure(figsize=(2.6*columns, 3.7*rows))
    for k, i in enumerate(which):
        ax = fig.add_axes(((k % columns + .06)/columns, 1 - (k//columns + .45)/rows, .6/columns, .42/rows))
        ax.imshow(s.canvas[i], cmap='gray_r')
        ax.set(xticks=[], yticks=[])
        ax.set_anchor('NW')
        lines, y = [('', refs[i][0], '.45')] + [(f'{k}: ', v[i] + (' ✓' if v[i] in refs[i] else ' ✗'), 'C2' if v[i] in refs[i] else 'C3') for k, v in said.items()], -.06
        for name, text, colour in lines:
            text = textwrap.fill(name + text.replace(' ,', ','), 42)
            ax.text(0, y, text, transform=ax.transAxes, va='top', fontsize=7.5, color=colour)
            y -= .09*(text.count('\n') + 1) + .03
    return fig


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folders', type=Path, nargs='+', help='with model.encoder.onnx and model.decoder.onnx')
    p.add_argument('--first', type=int, default=0, help='first of the eight test scenes')
    p.add_argument('--out', type=Path, default=EXAMPLE/'captions.png')
    args = p.parse_args()
    n = args.first + 8
    s = scenes.load(str(EXAMPLE/'caption.npz'), 'test', n)
    refs = s.texts('en')
    draw(s, refs, {f.name: captions(Captioner(f), 'test', 'en', n=n) for f in args.folders}, range(args.first, n)).savefig(args.out, dpi=90)
