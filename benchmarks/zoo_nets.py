"""Small networks of the kinds that mindcv does not have, written as their users write them; weights are random, as zoo.py makes them.

`NETS` gives for each name a function that returns the network, a function (n, seed) of the arrays it is fed with, and the axis of the
classes in its first output (None where the outputs are numbers)."""
import math
import numpy as np
import mindspore as ms
from mindspore import nn, ops, Parameter, Tensor
from mindspore.common.initializer import initializer, Normal

VOCAB,T = 500,24

def ids(n, seed, length=T):
    "Token ids [n,length] in which small numbers are frequent, as in texts; 0 pads the ends."
    rng = np.random.default_rng(seed); x = (VOCAB*rng.random((n, length))**3).astype(np.int32).clip(2)
    return np.where(np.arange(length)<rng.integers(length//2, length+1, (n, 1)), x, 0).astype(np.int32)

def images(n, size, seed):
    from zoo import images
    return images(n, size, seed)

# ---- transformers ----

class Attention(nn.Cell):
    "Separate projections; what is added to the scores is a mask or a bias of positions."
    def __init__(self, d, heads, bias=True, scale=True):
        super().__init__()
        self.q,self.k,self.v,self.o = (nn.Dense(d, d, weight_init=Normal(d**-.5), has_bias=bias) for _ in range(4))
        self.heads,self.scale = heads,(d//heads)**-.5 if scale else 1.
    def split(self, x):
        b,t,d = x.shape
        return x.reshape(b, t, self.heads, d//self.heads).transpose(0, 2, 1, 3)
    def construct(self, x, memory, add):
        b,t,d = x.shape
        q,k,v = self.split(self.q(x)),self.split(self.k(memory)),self.split(self.v(memory))
        a = ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2))*self.scale+add, -1)
        return self.o(ops.matmul(a, v).transpose(0, 2, 1, 3).reshape(b, t, d))

def _dense(i, o, bias=True): return nn.Dense(i, o, weight_init=Normal(i**-.5), has_bias=bias)

class BertLayer(nn.Cell):
    def __init__(self, d, heads):
        super().__init__()
        self.att,self.n1,self.up,self.act,self.down,self.n2 = Attention(d, heads),nn.LayerNorm((d,)),_dense(d, 4*d),nn.GELU(False),_dense(4*d, d),nn.LayerNorm((d,))
    def construct(self, x, add):
        x = self.n1(x+self.att(x, x, add))
        return self.n2(x+self.down(self.act(self.up(x))))

class Bert(nn.Cell):
    "Encoder of Devlin et al. (2019): three embeddings, norms behind the sums, a pooler on the first token; ids and segments in, classes out."
    def __init__(self, d=128, heads=4, depth=3, classes=6):
        super().__init__()
        self.words,self.places,self.parts = nn.Embedding(VOCAB, d, embedding_table=Normal(1.)),nn.Embedding(T, d, embedding_table=Normal(.3)),nn.Embedding(2, d, embedding_table=Normal(.3))
        self.norm,self.drop,self.layers = nn.LayerNorm((d,)),nn.Dropout(p=.1),nn.CellList([BertLayer(d, heads) for _ in range(depth)])
        self.pooler,self.tanh,self.head,self.at = _dense(d, d),nn.Tanh(),_dense(d, classes),Tensor(np.arange(T)[None].astype(np.int32))
    def construct(self, tokens, segments):
        add = (1-(tokens!=0).astype(ms.float32)).expand_dims(1).expand_dims(1)*-1e4
        x = self.drop(self.norm(self.words(tokens)+self.places(self.at)+self.parts(segments)))
        for l in self.layers: x = l(x, add)
        return self.head(self.tanh(self.pooler(x[:,0])))

class GptLayer(nn.Cell):
    def __init__(self, d, heads):
        super().__init__()
        self.n1,self.att,self.n2,self.up,self.act,self.down = nn.LayerNorm((d,)),Attention(d, heads),nn.LayerNorm((d,)),_dense(d, 4*d),nn.GELU(True),_dense(4*d, d)
    def construct(self, x, add):
        h = self.n1(x); x = x+self.att(h, h, add)
        return x+self.down(self.act(self.up(self.n2(x))))

class Gpt(nn.Cell):
    "Decoder of Radford et al. (2019): causal mask, norms before the layers, and the embedding table as the last layer's weight."
    def __init__(self, d=128, heads=4, depth=3):
        super().__init__()
        self.table,self.places = Parameter(initializer(Normal(.3), (VOCAB,d)), name='table'),Parameter(initializer(Normal(.1), (T,d)), name='places')
        self.layers,self.norm = nn.CellList([GptLayer(d, heads) for _ in range(depth)]),nn.LayerNorm((d,)); self.causal = Tensor(np.triu(np.full((T,T), -1e4, np.float32), 1))
    def construct(self, tokens):
        x = ops.gather(self.table, tokens, 0)+self.places
        for l in self.layers: x = l(x, self.causal)
        return ops.matmul(self.norm(x), self.table.T)

class Rms(nn.Cell):
    def __init__(self, d): super().__init__(); self.gamma = Parameter(initializer('ones', (d,)), name='gamma')
    def construct(self, x): return x*ops.rsqrt(ops.mean(x*x, -1, True)+1e-6)*self.gamma

class Positions(nn.Cell):
    "A bias for each head and each of 16 buckets of distances (Raffel et al., 2020)."
    def __init__(self, heads, both):
        super().__init__()
        d = np.arange(T)[None]-np.arange(T)[:,None]; n = 8 if both else 16
        far = np.abs(d) if both else np.maximum(-d, 0); half = n//2
        b = np.where(far<half, far, half+(np.log(np.maximum(far, 1)/half)/math.log(T/half)*(n-half)).astype(int)).clip(0, n-1)
        self.at = Tensor((b+n*(d>0) if both else b).astype(np.int32)); self.table = nn.Embedding(16, heads, embedding_table=Normal(.5))
    def construct(self): return self.table(self.at).transpose(2, 0, 1).expand_dims(0)

class Gated(nn.Cell):
    def __init__(self, d):
        super().__init__()
        self.gate,self.up,self.down,self.act = _dense(d, 2*d, False),_dense(d, 2*d, False),_dense(2*d, d, False),nn.GELU(True)
    def construct(self, x): return self.down(self.act(self.gate(x))*self.up(x))

class T5Layer(nn.Cell):
    def __init__(self, d, heads, cross):
        super().__init__()
        self.n1,self.att,self.n3,self.ff = Rms(d),Attention(d, heads, False, False),Rms(d),Gated(d)
        self.n2,self.cross = (Rms(d),Attention(d, heads, False, False)) if cross else (None,None)
    def construct(self, x, add, memory, seen):
        h = self.n1(x); x = x+self.att(h, h, add)/4
        if self.cross is not None: x = x+self.cross(self.n2(x), memory, seen)/4
        return x+self.ff(self.n3(x))

class T5(nn.Cell):
    "Encoder and decoder with relative positions, root mean square norms, gated layers, no biases; source and target ids in."
    def __init__(self, d=128, heads=4, depth=2):
        super().__init__()
        self.words,self.here,self.past = nn.Embedding(VOCAB, d, embedding_table=Normal(1.)),Positions(heads, True),Positions(heads, False)
        self.encoder,self.decoder = nn.CellList([T5Layer(d, heads, False) for _ in range(depth)]),nn.CellList([T5Layer(d, heads, True) for _ in range(depth)])
        self.n1,self.n2,self.head,self.causal = Rms(d),Rms(d),_dense(d, VOCAB, False),Tensor(np.triu(np.full((T,T), -1e4, np.float32), 1))
    def construct(self, source, target):
        pad = (source==0).astype(ms.float32).expand_dims(1).expand_dims(1)*-1e4; x = self.words(source); add = self.here()+pad
        for l in self.encoder: x = l(x, add, x, pad)
        m = self.n1(x); y = self.words(target); add = self.past()+self.causal
        for l in self.decoder: y = l(y, add, m, pad)
        return self.head(self.n2(y))

class Vit(nn.Cell):
    "Dosovitskiy et al. (2021), with MindSpore's own encoder: patches by a convolution, a token for the class."
    def __init__(self, size=32, patch=4, d=128, heads=4, depth=3, classes=10):
        super().__init__()
        n = (size//patch)**2; self.patches = nn.Conv2d(3, d, patch, patch, pad_mode='valid', has_bias=True)
        self.token,self.places = Parameter(initializer(Normal(.5), (1,1,d)), name='token'),Parameter(initializer(Normal(.5), (1,n+1,d)), name='places')
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, heads, 4*d, activation='gelu', batch_first=True, norm_first=True), depth); self.norm,self.head = nn.LayerNorm((d,)),_dense(d, classes)
    def construct(self, x):
        x = self.patches(x); b,d,_,_ = x.shape; x = x.reshape(b, d, -1).transpose(0, 2, 1)
        x = ops.concat((ops.broadcast_to(self.token, (b,1,d)), x), 1)+self.places
        return self.head(self.norm(self.body(x))[:,0])

class Translator(nn.Cell):
    "Vaswani et al. (2017) by `nn.Transformer`, with a causal mask and a mask of the padding; source and target ids in."
    def __init__(self, d=128, heads=4, depth=2):
        super().__init__()
        self.source,self.target = nn.Embedding(VOCAB, d, embedding_table=Normal(.5)),nn.Embedding(VOCAB, d, embedding_table=Normal(.5))
        w = np.arange(T)[:,None]/10000**(np.arange(0, d, 2)/d); self.waves = Tensor(np.stack([np.sin(w), np.cos(w)], 2).reshape(1, T, d).astype(np.float32))
        self.body = nn.Transformer(d, heads, depth, depth, 4*d, dropout=.1, batch_first=True); self.head,self.causal = _dense(d, VOCAB),Tensor(np.triu(np.ones((T,T), bool), 1))
    def construct(self, source, target):
        pad = source==0
        return self.head(self.body(self.source(source)+self.waves, self.target(target)+self.waves, tgt_mask=self.causal, src_key_padding_mask=pad, memory_key_padding_mask=pad))

# ---- images ----

def conv(i, o, k=3, s=1, d=1, act=True, group=1):
    return nn.SequentialCell(*[nn.Conv2d(i, o, k, s, pad_mode='pad', padding=d*(k//2), dilation=d, group=group, weight_init='HeNormal'), nn.BatchNorm2d(o), *[nn.ReLU()]*act])

class Residual(nn.Cell):
    def __init__(self, i, o, s=1, d=1):
        super().__init__()
        self.a,self.b,self.relu,self.down = conv(i, o, 3, s, d),conv(o, o, 3, 1, d, False),nn.ReLU(),conv(i, o, 1, s, act=False) if s>1 or i!=o else None
    def construct(self, x): return self.relu(self.b(self.a(x))+(x if self.down is None else self.down(x)))

class Deeplab(nn.Cell):
    "Chen et al. (2017): atrous convolutions side by side, one branch of the whole image, resized to the image; a class for each pixel."
    def __init__(self, w=24, classes=5):
        super().__init__()
        self.body = nn.SequentialCell(conv(3, w, 3, 2), Residual(w, 2*w, 2), Residual(2*w, 4*w, 2), Residual(4*w, 4*w, 1, 2))
        self.point,self.a2,self.a4,self.a6,self.whole = conv(4*w, 2*w, 1),conv(4*w, 2*w, d=2),conv(4*w, 2*w, d=4),conv(4*w, 2*w, d=6),conv(4*w, 2*w, 1)
        self.pool,self.join,self.head = nn.AdaptiveAvgPool2d(1),conv(10*w, 2*w, 1),nn.Conv2d(2*w, classes, 1, has_bias=True)
    def construct(self, x):
        size = x.shape[2:]; x = self.body(x)
        g = ops.interpolate(self.whole(self.pool(x)), size=x.shape[2:], mode='bilinear', align_corners=False)
        x = self.head(self.join(ops.concat((self.point(x), self.a2(x), self.a4(x), self.a6(x), g), 1)))
        return ops.interpolate(x, size=size, mode='bilinear', align_corners=False)

class Retina(nn.Cell):
    "Lin et al. (2017): a pyramid of features, the same two heads on each of its levels; scores [N,boxes,classes] and boxes [N,boxes,4]."
    def __init__(self, w=24, p=48, classes=5, anchors=3):
        super().__init__()
        self.stem,self.c3,self.c4,self.c5 = conv(3, w, 3, 2),Residual(w, 2*w, 2),Residual(2*w, 3*w, 2),Residual(3*w, 4*w, 2)
        self.l3,self.l4,self.l5 = (nn.Conv2d(k*w, p, 1, has_bias=True) for k in (2,3,4)); self.s3,self.s4,self.s5 = (nn.Conv2d(p, p, 3, has_bias=True) for _ in range(3))
        self.scores = nn.SequentialCell(conv(p, p), conv(p, p), nn.Conv2d(p, anchors*classes, 3, has_bias=True)); self.boxes = nn.SequentialCell(conv(p, p), conv(p, p), nn.Conv2d(p, anchors*4, 3, has_bias=True)); self.classes = classes
    def rows(self, x, k): return x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, k)
    def up(self, x, like): return ops.interpolate(x, size=like.shape[2:], mode='nearest')
    def construct(self, x):
        a = self.c3(self.stem(x)); b = self.c4(a); c = self.c5(b)
        c = self.l5(c); b = self.l4(b); b = b+self.up(c, b); a = self.l3(a); a = a+self.up(b, a)
        ps = self.s3(a),self.s4(b),self.s5(c); scores,boxes = (),()
        for p in ps: scores += (self.rows(self.scores(p), self.classes),); boxes += (self.rows(self.boxes(p), 4),)
        return ops.sigmoid(ops.concat(scores, 1)),ops.concat(boxes, 1)

class Unet(nn.Cell):
    "Ronneberger et al. (2015): down by pooling, up by transposed convolutions, what went down beside what comes up; a class for each pixel."
    def __init__(self, w=16, classes=4):
        super().__init__()
        two = lambda i,o: nn.SequentialCell(conv(i, o), conv(o, o))
        self.d1,self.d2,self.d3,self.d4 = two(3, w),two(w, 2*w),two(2*w, 4*w),two(4*w, 8*w); self.pool = nn.MaxPool2d(2, 2)
        self.u3,self.u2,self.u1 = (nn.Conv2dTranspose(2*k*w, k*w, 2, 2, pad_mode='valid', has_bias=True) for k in (4,2,1)); self.e3,self.e2,self.e1 = two(8*w, 4*w),two(4*w, 2*w),two(2*w, w)
        self.head = nn.Conv2d(w, classes, 1, has_bias=True)
    def construct(self, x):
        a = self.d1(x); b = self.d2(self.pool(a)); c = self.d3(self.pool(b)); y = self.d4(self.pool(c))
        y = self.e3(ops.concat((c, self.u3(y)), 1)); y = self.e2(ops.concat((b, self.u2(y)), 1)); y = self.e1(ops.concat((a, self.u1(y)), 1))
        return self.head(y)

# ---- sequences ----

class Reader(nn.Cell):
    "Words, a recurrent layer in both directions, the mean of its states, a class."
    def __init__(self, kind, d=64, h=96, classes=6):
        super().__init__()
        self.words,self.body = nn.Embedding(VOCAB, d, embedding_table=Normal(1.)),kind(d, h, num_layers=1, batch_first=True, bidirectional=True); self.mid,self.head = _dense(2*h, 64),_dense(64, classes)
    def construct(self, tokens):
        x,_ = self.body(self.words(tokens))
        return self.head(ops.relu(self.mid(x.mean(1))))

class Tcn(nn.Cell):
    "Bai et al. (2018): dilated causal convolutions over a signal [N,6,64]."
    def __init__(self, w=48, classes=6):
        super().__init__()
        one = lambda i,d: nn.Conv1d(i, w, 3, pad_mode='pad', padding=d, dilation=d, has_bias=True)
        self.first,self.body,self.norms,self.head = nn.Conv1d(6, w, 1, has_bias=True),nn.CellList([one(w, d) for d in (1,2,4,8)]),nn.CellList([nn.GroupNorm(4, w) for _ in range(4)]),_dense(w, classes)
    def construct(self, x):
        x = self.first(x)
        for c,n in zip(self.body, self.norms): x = x+ops.relu(n(c(x).expand_dims(-1)).squeeze(-1))
        return self.head(x.mean(-1))

def signals(n, seed): return images(2*n, 64, seed)[:,:,:1].reshape(n, 6, 64)
def pairs(n, seed): return ids(n, seed),ids(n, seed+100)
def segmented(n, seed): x = ids(n, seed); return x,(np.arange(T)[None]>=T//2).astype(np.int32).repeat(n, 0)

NETS = dict(bert=lambda: (Bert(), segmented, -1), gpt=lambda: (Gpt(), lambda n,s: (ids(n, s),), -1), t5=lambda: (T5(), pairs, -1), vit_own=lambda: (Vit(), lambda n,s: (images(n, 32, s),), -1),
    deeplab=lambda: (Deeplab(), lambda n,s: (images(n, 64, s),), 1), retina=lambda: (Retina(), lambda n,s: (images(n, 64, s),), None), transformer=lambda: (Translator(), pairs, -1), unet=lambda: (Unet(), lambda n,s: (images(n, 64, s),), 1),
    lstm=lambda: (Reader(nn.LSTM), lambda n,s: (ids(n, s),), -1), gru=lambda: (Reader(nn.GRU), lambda n,s: (ids(n, s),), -1), tcn=lambda: (Tcn(), lambda n,s: (signals(n, s),), -1))
