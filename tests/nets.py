"Networks as users bring them: less tidy than those of a lesson."
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

def t(*shape, seed=0): return Tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
def ids(*shape, n=20): return Tensor(np.random.default_rng(0).integers(0, n, shape), ms.int32)

class Linear16(nn.Dense):
    "Casts to fp16 and multiplies by itself."
    def construct(self, x):
        shape = x.shape
        x = ops.reshape(x, (-1, shape[-1]))
        y = ops.MatMul(transpose_b=True)(ops.cast(x, ms.float16), ops.cast(self.weight, ms.float16))
        return ops.reshape(ops.cast(y, ms.float32)+self.bias, shape[:-1]+(self.out_channels,))

class Separable(nn.Cell):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.dw,self.b1 = nn.Conv2d(i, i, 3, stride, group=i),nn.BatchNorm2d(i)
        self.pw,self.b2,self.act = nn.Conv2d(i, o, 1),nn.BatchNorm2d(o),nn.ReLU6()
    def construct(self, x): return self.act(self.b2(self.pw(self.act(self.b1(self.dw(x))))))

class Residual(nn.Cell):
    def __init__(self, c):
        super().__init__()
        self.c1,self.b1,self.c2,self.b2,self.act = nn.Conv2d(c, c, 3),nn.BatchNorm2d(c),nn.Conv2d(c, c, 3),nn.BatchNorm2d(c),nn.ReLU()
    def construct(self, x): return self.act(x + self.b2(self.c2(self.act(self.b1(self.c1(x))))))

class CNN(nn.Cell):
    "Residual adds, a depthwise-separable block, batch norm, a layer that is never called."
    def __init__(self):
        super().__init__()
        self.stem,self.res,self.ds = nn.Conv2d(1, 16, 3, has_bias=True),nn.SequentialCell(Residual(16), Residual(16)),Separable(16, 32, 2)
        self.head,self.unused = nn.Dense(32, 10),nn.Dense(3, 4)
    def construct(self, x): return self.head(self.ds(self.res(ops.relu(self.stem(x)))).mean((2,3)))

class Grouped(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a,self.up = nn.Conv2d(8, 16, 3, group=4, has_bias=True, pad_mode='pad', padding=(1,0,1,0)),nn.Conv2dTranspose(16, 4, 2, 2)
    def construct(self, x): return self.up(self.a(x))

class Conv1d(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a,self.b,self.fc = nn.Conv1d(4, 8, 3, has_bias=True),nn.Conv1d(8, 8, 3, stride=2),nn.Dense(8, 5)
    def construct(self, x): return self.fc(self.b(ops.relu(self.a(x))).mean(-1))

class Mint(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a,self.b = mint.nn.Linear(8, 16),mint.nn.Linear(16, 5)
    def construct(self, x): return self.b(mint.nn.functional.relu(self.a(x)))

class Shared(nn.Cell):
    "A layer called twice, a weight of two Cells, a CellList."
    def __init__(self):
        super().__init__()
        self.a,self.b,self.layers = nn.Dense(8, 8),nn.Dense(8, 8),nn.CellList([nn.Dense(8, 8) for _ in range(2)])
        self.b.weight = self.a.weight
    def construct(self, x):
        x = self.b(self.a(self.a(x)))
        for l in self.layers: x = l(x)
        return x

class Attention(nn.Cell):
    "The library's attention, an embedding, an fp16 Linear, LayerNorm, GELU."
    def __init__(self):
        super().__init__()
        self.emb,self.mha,self.ff,self.out,self.ln = nn.Embedding(20, 16),nn.MultiheadAttention(16, 4),Linear16(16, 32),nn.Dense(32, 16),nn.LayerNorm((16,))
    def construct(self, i):
        x = self.emb(i); y,_ = self.mha(x, x, x)
        return self.out(ops.gelu(self.ff(self.ln(x+y))))

class ByHand(nn.Cell):
    "Attention by hand; two inputs, two outputs; a product with a Parameter that is no Cell's weight."
    def __init__(self):
        super().__init__()
        self.q,self.k,self.v = nn.Dense(16, 16),nn.Dense(16, 16),nn.Dense(16, 16)
        self.w = Parameter(Tensor(np.random.default_rng(0).normal(size=(16,8)).astype(np.float32)*.1), name='w')
    def construct(self, x, m):
        a = ops.softmax(ops.BatchMatMul(transpose_b=True)(self.q(x), self.k(x))/4 + m, -1)
        y = ops.matmul(a, self.v(x))
        return ops.matmul(y, self.w), y

class Recurrent(nn.Cell):
    def __init__(self):
        super().__init__()
        self.r,self.fc = nn.LSTM(8, 8, batch_first=True),nn.Dense(8, 4)
    def construct(self, x): return self.fc(self.r(x)[0])

class Branch(nn.Cell):
    "Which layer runs depends on the data."
    def __init__(self):
        super().__init__()
        self.a,self.b = nn.Dense(8, 8),nn.Dense(8, 8)
    def construct(self, x):
        if x.sum()>0: return self.a(x)
        return self.b(x)

class Tied(nn.Cell):
    "The output projection is the embedding table."
    def __init__(self):
        super().__init__()
        self.emb,self.fc,self.mm = nn.Embedding(20, 16),nn.Dense(16, 16),ops.MatMul(transpose_b=True)
    def construct(self, i): return self.mm(self.fc(self.emb(i)).reshape((-1,16)), self.emb.embedding_table)

class Encoder(nn.Cell):
    def __init__(self):
        super().__init__()
        self.e = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.), 2)
    def construct(self, x): return self.e(x)

NETS = dict(cnn=(CNN, lambda b: (t(b,1,14,14),)), grouped=(Grouped, lambda b: (t(b,8,6,6),)), conv1d=(Conv1d, lambda b: (t(b,4,12),)), mint=(Mint, lambda b: (t(b,8),)),
    shared=(Shared, lambda b: (t(b,8),)), attention=(Attention, lambda b: (ids(b,6),)), by_hand=(ByHand, lambda b: (t(b,6,16), t(b,6,6,seed=1))), recurrent=(Recurrent, lambda b: (t(b,5,8),)),
    branch=(Branch, lambda b: (t(b,8),)), tied=(Tied, lambda b: (ids(b,6),)), encoder=(Encoder, lambda b: (t(b,6,16),)))

def make(name, batch=2):
    "Network and inputs."
    ms.set_seed(1); net,inputs = NETS[name]
    return net().set_train(False),inputs(batch)
