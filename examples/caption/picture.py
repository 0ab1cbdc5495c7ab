"""Draw test scenes with what the network says of them: float, and with all layers at 8 and at 4 bits.

The captions are English: matplotlib has no Chinese letters. The network is the same; only the id it starts with differs.
"""
import os
os.environ.setdefault('GLOG_v', '3')
import argparse, textwrap
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import mindspore as ms

from quantnb.graph.ir import read_graph
from quantnb.quant.qnet import QuantNet
from quantnb.types import Strategy
from src.scripts.pretrain_three_caption_endtoend_eval import EXAMPLE, calib_func, get_input_data, grammar, opt_caption_model_eval, scenes
from src.tools.misc import read_config


def say(opts, bits):
    "`{'float': captions, '8 bits': ...}` of the first batch of test scenes."
    net, x = opt_caption_model_eval(opts), get_input_data(opts)
    q = QuantNet(net, read_graph(net, x), x)
    q.calibrate(lambda m: calib_func(m, opts))
    paths = [l.path for l in q.graph.quantizable]
    strategies = {'float': None} | {f'{b} bits': Strategy.uniform(paths, b, b) for b in bits}
    b = [ms.Tensor(o) for o in next(scenes.load(str(EXAMPLE/opts.data_file), 'test').batches(opts.val_batch_size, opts.patch_size))]
    return {name: [grammar.decode(row, opts.language) for row in q.net(s)(*b).asnumpy()] for name, s in strategies.items()}


def draw(s, refs, said, which, columns=4):
    "Scenes, the first reference in grey, captions in green where they are one of the references."
    rows = -(-len(which)//columns)
    fig, axs = plt.subplots(rows, columns, figsize=(2.6*columns, 3.7*rows), layout='constrained')
    for ax, i in zip(axs.flat, which):
        ax.imshow(s.canvas[i], cmap='gray_r')
        ax.set(xticks=[], yticks=[])
        lines = [('', refs[i][0], '.45')] + [(f'{k}: ', v[i], 'C2' if v[i] in refs[i] else 'C3') for k, v in said.items()]
        y = -.04
        for name, text, colour in lines:
            text = textwrap.fill(name + text, 34)
            ax.text(0, y, text, transform=ax.transAxes, va='top', fontsize=7.5, color=colour)
            y -= .075*(text.count('\n') + 1) + .02
    return fig


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--bits', type=int, nargs='*', default=[8, 4])
    p.add_argument('--first', type=int, default=0, help='first of the eight test scenes')
    p.add_argument('--out', type=Path, default=EXAMPLE/'captions.png')
    args = p.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    opts = read_config(EXAMPLE/'config'/'ftcap_quant.json', language='en')
    s = scenes.load(str(EXAMPLE/opts.data_file), 'test')
    refs = [[grammar.decode(grammar.encode(r), 'en') for r in rs] for rs in s.references('en')]
    draw(s, refs, say(opts, args.bits), range(args.first, args.first + 8)).savefig(args.out, dpi=90)
