"""Brevitas' GPTQ, GPFQ and Qronos on the networks of `rounding.py`: the same weights, the same calibration images, the same test images.

Runs in an environment of its own (`pip install torch brevitas`; 0.13.4 and torch 2.14 were used), which knows nothing of quantnb:

    python benchmarks/rounding.py --export FOLDER                  # in quantnb's environment
    python benchmarks/rounding_reference.py FOLDER [--nets resnet14] [--seeds 3] [--out benchmarks/rounding_reference.json]

Weights only, symmetric, a scale for each output channel that minimizes the squared error, batch norms merged first, inputs in the order of
their energy, bias correction last, as the library's own examples do it. The symmetric grid without its lowest number is the library's default; with it, the
grid is quantnb's: both are measured. Figures are kept as they come; a second run goes on."""
import argparse, json, time
from functools import partial
from pathlib import Path
import numpy as np, torch
from torch import nn
import torch.nn.functional as F
import brevitas.nn as qnn
from brevitas.graph.calibrate import bias_correction_mode
from brevitas.graph.gpfq import GPFQ, gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.qronos import Qronos
from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize
from brevitas.quant.scaled_int import Int8WeightPerChannelFloatMSE

def conv(i, o, k=3, s=1, g=1): return nn.Conv2d(i, o, k, s, k//2, groups=g, bias=False)

class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1,self.bn1,self.conv2,self.bn2 = conv(i, o, 3, s),nn.BatchNorm2d(o),conv(o, o),nn.BatchNorm2d(o); self.relu1,self.relu2 = nn.ReLU(),nn.ReLU()
        self.down = nn.Sequential(conv(i, o, 1, s), nn.BatchNorm2d(o)) if s>1 or i!=o else nn.Identity()
    def forward(self, x): return self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))+self.down(x))

class ResNet14(nn.Module):
    def __init__(self):
        super().__init__(); self.stem,self.bn,self.relu = conv(1, 16, 3, 2),nn.BatchNorm2d(16),nn.ReLU()
        self.blocks = nn.Sequential(*[Block(*o) for o in ((16,16,1),(16,16,1),(16,32,2),(32,32,1),(32,64,2),(64,64,1))]); self.head = nn.Linear(64, 10)
    def forward(self, x): return self.head(self.blocks(self.relu(self.bn(self.stem(x)))).mean((2,3)))

class Inverted(nn.Module):
    def __init__(self, i, o, s, t):
        super().__init__(); m = i*t; cs = [] if t==1 else [conv(i, m, 1), nn.BatchNorm2d(m), nn.ReLU6()]
        self.body = nn.Sequential(*cs, conv(m, m, 3, s, m), nn.BatchNorm2d(m), nn.ReLU6(), conv(m, o, 1), nn.BatchNorm2d(o)); self.add = s==1 and i==o
    def forward(self, x): return self.body(x)+x if self.add else self.body(x)

class MobileNet(nn.Module):
    def __init__(self):
        super().__init__(); i,bs = 24,[]
        for t,c,n,s in ((1,16,1,1),(4,24,2,1),(4,40,2,2),(4,64,2,1)):
            for k in range(n): bs.append(Inverted(i, c, s if k==0 else 1, t)); i = c
        self.stem = nn.Sequential(conv(1, 24, 3, 2), nn.BatchNorm2d(24), nn.ReLU6()); self.blocks = nn.Sequential(*bs)
        self.last = nn.Sequential(conv(i, 128, 1), nn.BatchNorm2d(128), nn.ReLU6()); self.head = nn.Linear(128, 10)
    def forward(self, x): return self.head(self.last(self.blocks(self.stem(x))).mean((2,3)))

class ConvBN(nn.Module):
    def __init__(self, i, o, k=3, s=1, g=1, act=nn.ReLU): super().__init__(); self.conv,self.bn,self.act = conv(i, o, k, s, g),nn.BatchNorm2d(o),act() if act else nn.Identity()
    def forward(self, x): return self.act(self.bn(self.conv(x)))
class Residual(nn.Module):
    def __init__(self, i, o, s=1):
        super().__init__(); self.conv1,self.conv2,self.relu = ConvBN(i, o, s=s),ConvBN(o, o, act=None),nn.ReLU(); self.short = ConvBN(i, o, 1, s, act=None) if s>1 or i!=o else nn.Identity()
    def forward(self, x): return self.relu(self.conv2(self.conv1(x))+self.short(x))
class Separable(nn.Module):
    def __init__(self, i, o, s=1): super().__init__(); self.depth,self.point = ConvBN(i, i, s=s, g=i, act=nn.ReLU6),ConvBN(i, o, 1, act=nn.ReLU6)
    def forward(self, x): return self.point(self.depth(x))
class Fashion(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem,self.res1,self.res2,self.sep1,self.res3,self.sep2,self.head = ConvBN(1, 16),Residual(16, 32, 2),Residual(32, 64, 2),Separable(64, 96),Residual(96, 96),Separable(96, 128),nn.Linear(128, 10)
    def forward(self, x): return self.head(self.sep2(self.res3(self.sep1(self.res2(self.res1(self.stem(x)))))).mean((2,3)))

class Attention(nn.Module):
    def __init__(self, d, heads): super().__init__(); self.qkv,self.out,self.heads,self.d = nn.Linear(d, 3*d),nn.Linear(d, d),heads,d
    def forward(self, x):
        q,k,v = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, self.d//self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.softmax(q@k.transpose(-1, -2)*(self.d//self.heads)**-.5, -1)
        return self.out((a@v).transpose(1, 2).reshape(x.shape))
class Layer(nn.Module):
    def __init__(self, d, heads, ff): super().__init__(); self.n1,self.att,self.n2,self.up,self.act,self.down = nn.LayerNorm(d),Attention(d, heads),nn.LayerNorm(d),nn.Linear(d, ff),nn.GELU(),nn.Linear(ff, d)
    def forward(self, x): x = x+self.att(self.n1(x)); return x+self.down(self.act(self.up(self.n2(x))))
class ViT(nn.Module):
    def __init__(self, d=64, heads=4, ff=192, depth=4):
        super().__init__(); self.embed,self.pos = nn.Linear(49, d),nn.Parameter(torch.zeros(1, 16, d)); self.layers,self.norm,self.head = nn.Sequential(*[Layer(d, heads, ff) for _ in range(depth)]),nn.LayerNorm(d),nn.Linear(d, 10)
    def forward(self, x):
        x = x.reshape(-1, 4, 7, 4, 7).permute(0, 1, 3, 2, 4).reshape(-1, 16, 49)
        return self.head(self.norm(self.layers(self.embed(x)+self.pos)).mean(1))

NETS = dict(fashion=Fashion, resnet14=ResNet14, mobilenet=MobileNet, vit=ViT)

def load(folder, name):
    "The network with the exported weights; batch norms have MindSpore's epsilon."
    net,z = NETS[name](),np.load(folder/f'{name}.npz'); new = dict(gamma='weight', beta='bias', moving_mean='running_mean', moving_variance='running_var')
    state = {'.'.join([*k.split('.')[:-1], new.get(k.split('.')[-1], k.split('.')[-1])]): torch.tensor(v) for k,v in z.items()}
    lost,odd = net.load_state_dict(state, strict=False); lost = [k for k in lost if not k.endswith('num_batches_tracked')]
    if lost or odd: raise SystemExit(f'{name}: the network lacks {lost}, the file has also {odd}')
    for m in net.modules():
        if isinstance(m, nn.LayerNorm): m.eps = 1e-7
    return net.eval()

def batches(x, n=250): return x.split(n)
def accuracy(net, x, y):
    with torch.no_grad(): return 100*float((torch.cat([net(b) for b in batches(x)]).argmax(1)==y).float().mean())

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
