"""Brevitas' GPTQ, GPFQ and Qronos on the networks of `rounding.py`: the same weights, the same calibration images, the same test images.

Runs in an environment of its own (`pip install torch brevitas`; 0.13.4 and torch 2.14 were used), which knows nothing of quantnb:

    python benchmarks/rounding.py --export FOLDER                  # in quantnb's environment
    python benchmarks/rounding_reference.py FOLDER [--nets resnet14] [--seeds 3] [--out benchmarks/rounding_reference.json]

Weights only, symmetric, a scale for each output channel that minimizes the squared error, batch norms merged first, inputs in the order of
their energy, bias correction last, as the library's own examples do it. The symmetric grid without its lowest number is the library's default; with it, the
grid is quantnb's: both are measured. Figures are kept as they come; a second run goes on."""
import argparse, json, sys, time
from functools import partial
from pathlib import Path
import numpy as np, torch
from torch import nn
import brevitas.nn as qnn
from brevitas.graph.calibrate import bias_correction_mode
from brevitas.graph.gpfq import GPFQ, gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.qronos import Qronos
from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize
from brevitas.quant.scaled_int import Int8WeightPerChannelFloatMSE

sys.path[:0] = [str(Path(__file__).resolve().parent)]
from torch_nets import NETS, accuracy, batches, load

def quantized(net, bits, narrow):
    q = dict(weight_quant=Int8WeightPerChannelFloatMSE, weight_bit_width=bits, weight_narrow_range=narrow, input_quant=None, output_quant=None, bias_quant=None, return_quant_tensor=False)
    return layerwise_quantize(net, {nn.Conv2d:(qnn.QuantConv2d, q), nn.Linear:(qnn.QuantLinear, q)})

def dual(net, calib, algorithm):
    "Two passes a layer: one with the float inputs, one with the quantized ones, as the library's examples do it."
    with torch.no_grad(), gpfq_mode(net, act_order=True, use_quant_activations=True, create_weight_orig=True, algorithm_impl=algorithm) as m:
        for _ in range(m.num_layers):
            for b in calib: m.model(b)
            m.update()

def gptq(net, calib):
    with torch.no_grad(), gptq_mode(net, act_order=True, use_quant_activations=False, create_weight_orig=False) as m:
        for _ in range(m.num_layers):
            for b in calib: m.model(b)
            m.update()

METHODS = {'nearest':lambda net, calib: None, 'GPTQ':gptq, 'GPFQ':partial(dual, algorithm=GPFQ), 'Qronos':partial(dual, algorithm=partial(Qronos, alpha=1e-6))}

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('folder', type=Path); p.add_argument('--nets', nargs='*', default=list(NETS)); p.add_argument('--seeds', type=int, default=3); p.add_argument('--widths', type=int, nargs='*', default=[4,3,2])
    p.add_argument('--methods', nargs='*', default=list(METHODS)); p.add_argument('--out', type=Path, default=Path(__file__).resolve().parent/'rounding_reference.json'); a = p.parse_args()
    torch.set_num_threads(1); r = json.loads(a.out.read_text()) if a.out.exists() else {}; data = np.load(a.folder/'data.npz'); x,y = (torch.tensor(data[k]) for k in ('x','y'))
    import brevitas; r['versions'] = {k: ', '.join(dict.fromkeys([*filter(None, r.get('versions', {}).get(k, '').split(', ')), v])) for k,v in (('torch',torch.__version__),('brevitas',brevitas.__version__))} # all that figures were measured with
    for name in a.nets:
        known = r.setdefault('nets', {}).setdefault(name, {})
        if 'float' not in known: known['float'] = accuracy(load(a.folder, name), x, y); print(name, 'float', known['float'], flush=True)
        for seed in range(a.seeds):
            calib = batches(torch.tensor(data[f'calib{seed}']), 64)
            for method in a.methods:
                for bits in a.widths:
                    for narrow in (False,True):
                        k = f'{method}{", narrow" if narrow else ""}'; done = known.setdefault(str(seed), {}).setdefault(k, {})
                        if f'W{bits}' in done: continue
                        t = time.perf_counter(); net = load(a.folder, name)
                        if name!='vit': net = preprocess_for_quantize(net, merge_bn=True, equalize_iters=0)
                        net = quantized(net, bits, narrow).eval()
                        with torch.no_grad(): net(calib[0])
                        METHODS[method](net, calib)
                        with torch.no_grad(), bias_correction_mode(net):
                            for b in calib: net(b)
                        done[f'W{bits}'] = accuracy(net, x, y); print(name, seed, k, bits, done[f'W{bits}'], round(time.perf_counter()-t, 1), flush=True)
                        new = a.out.with_suffix('.new'); new.write_text(json.dumps(r, indent=1)+'\n'); new.replace(a.out)
