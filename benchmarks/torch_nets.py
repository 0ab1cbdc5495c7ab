"""The networks of `quantizer_nets.py` in torch, and the example's, with the weights that `rounding.py --export` writes: for other libraries, in environments that know nothing of quantnb."""
import numpy as np, torch
from torch import nn

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
    def __init__(self, d, heads): super().__init__(); self.qkv,self.out,self.soft,self.heads,self.d = nn.Linear(d, 3*d),nn.Linear(d, d),nn.Softmax(-1),heads,d
    def forward(self, x):
        y = self.qkv(x).reshape(-1, 16, 3, self.heads, self.d//self.heads).permute(2, 0, 3, 1, 4); q,k,v = y[0],y[1],y[2] # fixed shapes and a module for the softmax: tools that trace with torch.fx need both
        a = self.soft(q@k.transpose(-1, -2)*(self.d//self.heads)**-.5)
        return self.out((a@v).transpose(1, 2).reshape(-1, 16, self.d))
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
