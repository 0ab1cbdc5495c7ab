"""Three trained networks to measure engines with: a ResNet18, a MobileNetV2 and a transformer encoder, all for 32x32 images.

They are trained for a few passes over the shipped Fashion-MNIST images that the benchmark does not evaluate on, so a clone
is all it takes; with so few images they reach about 75 to 85 %. `trained(name)` trains once and keeps the checkpoint in a cache."""
import os
os.environ.setdefault('GLOG_v', '3')
import tempfile, time
from pathlib import Path
import numpy as np
import mindspore as ms
from mindspore import nn, ops

def conv(i, o, k=3, s=1, g=1): return nn.Conv2d(i, o, k, s, pad_mode='pad', padding=k//2, group=g)

class Block(nn.Cell):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1,self.bn1,self.conv2,self.bn2,self.relu = conv(i, o, 3, s),nn.BatchNorm2d(o),conv(o, o),nn.BatchNorm2d(o),nn.ReLU()
        self.down = nn.SequentialCell(conv(i, o, 1, s), nn.BatchNorm2d(o)) if s>1 or i!=o else None
    def construct(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.down is not None: x = self.down(x)
        return self.relu(y+x)

class ResNet(nn.Cell):
    "ResNet18 (He et al., 2016) with a 3x3 stem, as it is used for small images."
    def __init__(self, width=32, classes=10):
        super().__init__()
        self.stem,self.bn,self.relu = conv(1, width),nn.BatchNorm2d(width),nn.ReLU()
        ws = [width, width, 2*width, 4*width, 8*width]
        self.blocks = nn.SequentialCell(*[Block(ws[k] if j==0 else ws[k+1], ws[k+1], 2 if j==0 and k>0 else 1) for k in range(4) for j in range(2)])
        self.head = nn.Dense(ws[-1], classes)
    def construct(self, x): return self.head(self.blocks(self.relu(self.bn(self.stem(x)))).mean((2,3)))

class Bottleneck(nn.Cell):
    def __init__(self, i, m, s):
        super().__init__()
        self.a,self.b,self.c = (nn.SequentialCell(conv(*o), nn.BatchNorm2d(o[1])) for o in ((i, m, 1), (m, m, 3, s), (m, 4*m, 1)))
        self.down,self.relu = nn.SequentialCell(conv(i, 4*m, 1, s), nn.BatchNorm2d(4*m)) if s>1 or i!=4*m else None,nn.ReLU()
    def construct(self, x):
        y = self.c(self.relu(self.b(self.relu(self.a(x)))))
        if self.down is not None: x = self.down(x)
        return self.relu(y+x)

class ResNet50(nn.Cell):
    "ResNet-50 (He et al., 2016) for 224x224 images; here only its size matters, so it is never trained."
    def __init__(self, classes=1000):
        super().__init__()
        self.stem = nn.SequentialCell(nn.Conv2d(3, 64, 7, 2, pad_mode='pad', padding=3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, pad_mode='same')); i,bs = 64,[]
        for k,(m,n) in enumerate(((64,3),(128,4),(256,6),(512,3))):
            for j in range(n): bs.append(Bottleneck(i, m, 2 if j==0 and k else 1)); i = 4*m
        self.blocks,self.head = nn.SequentialCell(*bs),nn.Dense(i, classes)
    def construct(self, x): return self.head(self.blocks(self.stem(x)).mean((2,3)))

class Inverted(nn.Cell):
    def __init__(self, i, o, s, t):
        super().__init__()
        m = i*t; cs = [] if t==1 else [conv(i, m, 1), nn.BatchNorm2d(m), nn.ReLU6()]
        self.body = nn.SequentialCell(*cs, conv(m, m, 3, s, m), nn.BatchNorm2d(m), nn.ReLU6(), conv(m, o, 1), nn.BatchNorm2d(o))
        self.add = s==1 and i==o
    def construct(self, x):
        y = self.body(x)
        return y+x if self.add else y

class MobileNet(nn.Cell):
    "MobileNetV2 (Sandler et al., 2018), strides for 32x32."
    def __init__(self, classes=10):
        super().__init__()
        cfg = [(1,16,1,1),(6,24,2,1),(6,32,3,2),(6,64,4,2),(6,96,3,1),(6,160,3,2),(6,320,1,1)]; i = 32; bs = []
        for t,c,n,s in cfg:
            for k in range(n): bs.append(Inverted(i, c, s if k==0 else 1, t)); i = c
        self.stem = nn.SequentialCell(conv(1, 32), nn.BatchNorm2d(32), nn.ReLU6())
        self.blocks = nn.SequentialCell(*bs); self.last = nn.SequentialCell(conv(i, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6())
        self.head = nn.Dense(1280, classes)
    def construct(self, x): return self.head(self.last(self.blocks(self.stem(x))).mean((2,3)))

class Attention(nn.Cell):
    def __init__(self, d, heads):
        super().__init__()
        self.qkv,self.out,self.heads,self.scale = nn.Dense(d, 3*d),nn.Dense(d, d),heads,(d//heads)**-.5
    def construct(self, x):
        b,t,d = x.shape
        q,k,v = ops.split(self.qkv(x).reshape(b, t, 3*self.heads, d//self.heads).transpose(0, 2, 1, 3), self.heads, 1)
        a = ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2))*self.scale, -1)
        return self.out(ops.matmul(a, v).transpose(0, 2, 1, 3).reshape(b, t, d))

class Layer(nn.Cell):
    def __init__(self, d, heads, ff):
        super().__init__()
        self.n1,self.att,self.n2,self.up,self.act,self.down = nn.LayerNorm((d,)),Attention(d, heads),nn.LayerNorm((d,)),nn.Dense(d, ff),nn.GELU(False),nn.Dense(ff, d)
    def construct(self, x):
        x = x+self.att(self.n1(x))
        return x+self.down(self.act(self.up(self.n2(x))))

class Encoder(nn.Cell):
    "Pre-norm transformer encoder on 4x4 patches (Dosovitskiy et al., 2021): 64 tokens of 256 numbers."
    def __init__(self, d=256, heads=4, ff=1024, depth=6, classes=10):
        super().__init__()
        self.embed,self.pos = nn.Dense(16, d),ms.Parameter(ms.Tensor(np.random.default_rng(0).normal(0, .02, (1, 64, d)).astype(np.float32)), name='pos')
        self.layers = nn.SequentialCell(*[Layer(d, heads, ff) for _ in range(depth)]); self.norm,self.head = nn.LayerNorm((d,)),nn.Dense(d, classes)
    def construct(self, x):
        x = x.reshape(-1, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 64, 16)
        return self.head(self.norm(self.layers(self.embed(x)+self.pos)).mean(1))

NETS = dict(resnet=ResNet, mobilenet=MobileNet, encoder=Encoder)

def data():
    "(images, labels) to evaluate on, 2000; to calibrate on, 512; to train on, 4000. Images float32 [N,1,32,32]."
    d = np.load(Path(__file__).parent.parent/'examples/fashion/fashion.npz')
    x = lambda k: ((np.pad(d[k+'_x'], ((0,0),(2,2),(2,2))).astype(np.float32)-73)/90)[:,None]
    y = lambda k: d[k+'_y'].astype(np.int32)
    return (x('search'), y('search')),(x('calib'), y('calib')),(np.concatenate([x('confirm'), x('test')]), np.concatenate([y('confirm'), y('test')]))

def train(net, x, y, epochs, lr, seed=0, bs=64):
    ms.set_seed(seed); rng = np.random.default_rng(seed); n = len(x)//bs; steps = n*epochs
    t = (np.arange(steps)+1)/steps; lrs = np.where(t<.2, lr*t/.2, lr*(1+np.cos(np.pi*(t-.2)/.8))/2).tolist()
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss(label_smoothing=.05)), nn.AdamWeightDecay(net.trainable_params(), lrs, weight_decay=.01)).set_train()
    for e in range(epochs):
        p = rng.permutation(len(x)); s = time.time(); ls = []
        for k in range(n):
            b = x[p[k*bs:(k+1)*bs]]; b = np.where(rng.random(len(b))[:,None,None,None]<.5, b[...,::-1], b)
            ls.append(float(step(ms.Tensor(b), ms.Tensor(y[p[k*bs:(k+1)*bs]])).asnumpy()))
        print(f'epoch {e+1}: loss {np.mean(ls):.3f}, {time.time()-s:.0f} s', flush=True)
    return net.set_train(False)

def trained(name, cache=None):
    "One of the networks, trained; its checkpoint is kept in `cache`."
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); np.random.seed(0)
    net = NETS[name](); f = Path(cache or Path(tempfile.gettempdir())/'quantnb_benchmark')/f'{name}.ckpt'
    if f.exists(): ms.load_checkpoint(str(f), net); return net.set_train(False)
    _,_,(x,y) = data()
    train(net, x, y, 4 if name!='encoder' else 10, 2e-3 if name!='encoder' else 5e-4)
    f.parent.mkdir(parents=True, exist_ok=True); ms.save_checkpoint(net, str(f))
    return net

def accuracy(net, x, y, bs=100):
    "Share of correct images."
    return float(np.mean([net(ms.Tensor(x[k:k+bs])).asnumpy().argmax(1)==y[k:k+bs] for k in range(0, len(x), bs)]))

if __name__=='__main__':
    import sys
    for k in sys.argv[1:] or NETS:
        net = trained(k); (x,y),_,_ = data(); accuracy(net, x, y); t = time.time(); a = accuracy(net, x, y)
        print(k, f'{100*a:.2f} %', f'{time.time()-t:.2f} s for {len(x)} images', sum(int(np.prod(p.shape)) for p in net.get_parameters()), 'numbers', flush=True)
