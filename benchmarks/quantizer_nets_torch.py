"""Trains the networks of `quantizer_nets.py` in torch, which takes a quarter of the time that MindSpore needs on a CPU, and writes the same files.

Runs in an environment with torch (nothing of quantnb), with the networks of `torch_nets.py` and the recipe of `quantizer_nets.py`:

    python benchmarks/quantizer_nets_torch.py mobilenet vit --data FOLDER of the four idx files [--epochs 5]"""
import argparse, sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here), str(here.parent/'examples/fashion')]
from prepare import DATA, split
from torch_nets import NETS, accuracy

MEAN,STD = .2860,.3530 # as `examples/fashion/model.py` has them

def normalised(x): return torch.from_numpy(((x[:,None].astype(np.float32)/255-MEAN)/STD).astype(np.float32))

def augmented(x, rng):
    "Shifted by up to 2 pixels either way, half of them mirrored."
    wins = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0,0),(2,2),(2,2))), (28,28), (1,2)); i,j = rng.integers(0, 5, (2,len(x))); x = wins[np.arange(len(x)),i,j]
    return np.where(rng.random(len(x))[:,None,None]<.5, x[:,:,::-1], x)

def train(name, parts, epochs, seed=0, bs=128):
    torch.manual_seed(seed); rng,net = np.random.default_rng(seed),NETS[name]().to(memory_format=torch.channels_last); (x,y),n = parts['train'],len(parts['train'][0])//bs
    if name=='vit': nn.init.normal_(net.pos, std=.02)
    for m in net.modules():
        if isinstance(m, nn.LayerNorm): m.eps = 1e-7 # MindSpore's
    decay,rest = ([p for p in net.parameters() if (p.ndim>1)==o] for o in (True,False)); peak = 2e-3 if name=='vit' else .15
    opt = torch.optim.AdamW(net.parameters(), peak, weight_decay=.02) if name=='vit' else torch.optim.SGD([dict(params=decay, weight_decay=5e-4),dict(params=rest, weight_decay=0.)], peak, momentum=.9, nesterov=True)
    plan = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: (t/.2 if (t := (k+1)/(epochs*n))<.2 else (1+np.cos(np.pi*(t-.2)/.8))/2)); loss = nn.CrossEntropyLoss(label_smoothing=.05); y = torch.from_numpy(y.astype(np.int64))
    for e in range(epochs):
        start,total = time.perf_counter(),0.; net.train()
        for i in np.split(rng.permutation(len(x))[:n*bs], n):
            l = loss(net(normalised(augmented(x[i], rng)).contiguous(memory_format=torch.channels_last)), y[i]); opt.zero_grad(); l.backward(); opt.step(); plan.step(); total += l.item()
        print(f'{name} epoch {e+1}/{epochs}: loss {total/n:.4f}, {time.perf_counter()-start:.0f} s', flush=True)
    return net.eval()

def mindspore_names(net):
    "{parameter's name in MindSpore: float16 array}."
    norms,new = {k for k,m in net.named_modules() if isinstance(m, (nn.BatchNorm2d,nn.LayerNorm))},dict(weight='gamma', bias='beta', running_mean='moving_mean', running_var='moving_variance')
    split = {k: k.rpartition('.') for k in net.state_dict() if not k.endswith('num_batches_tracked')}
    return {f'{o}.{new[p]}' if o in norms else k: net.state_dict()[k].numpy().astype(np.float16) for k,(o,_,p) in split.items()}

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('names', nargs='*', default=['mobilenet','vit']); p.add_argument('--data', default=DATA); p.add_argument('--epochs', type=int, default=5); a = p.parse_args()
    torch.set_num_threads(1); parts = split(a.data)
    for name in a.names:
        net = train(name, parts, a.epochs); np.savez_compressed(here/'quantizer'/f'{name}.npz', **mindspore_names(net))
        print(name, {k: round(accuracy(net, normalised(parts[k][0]), torch.from_numpy(parts[k][1].astype(np.int64))), 2) for k in ('calib','search','test')}, flush=True)
