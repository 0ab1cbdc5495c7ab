"""Whisper base, a network for speech (Radford et al., 2022), and the functions that quantnb calls by name.

    python benchmarks/real/whisper.py     # the float network: what it writes down of each clip, beside what is said

An encoder over 30 seconds of sound (two convolutions, 6 blocks, 1500 positions of 512) and a decoder of 6 blocks with attention to
the encoder, whose head is the table of the tokens. Both are called by themselves: the encoder once a clip, which returns the keys and
values of the decoder's cross-attention, and the decoder once a token, whose cache is an input and an output. The network as a whole
takes the tokens of a text and foretells each from those before it. The weights are the package's, float16 taken to float32.

Judged by the words that are wrong, and by the negative log likelihood of a token, on clips of speech (see speech.py).
"""
import numpy as np
import mindspore as ms
from mindspore import nn, ops
import speech
from fetch import skipping
from speech import FRAMES, NOISE, PARTS, clips, folder, summary, text_ids
from weights import load, read_ct2
from quantnb.perplexity import next_token


# ---- network: features [N,80,3000], input_ids int32 [N,T] -> logits [N,T,51865] ----

def attend(q, k, v, heads, mask=None):
    "[N,T,d] from queries [N,T,d], keys and values [N,S,d]; `mask` is added to the scores."
    n, t, d = q.shape; split = lambda x: x.reshape(n, -1, heads, d//heads).transpose(0, 2, 1, 3)
    scores = ops.matmul(split(q)*(d//heads)**-.5, split(k).transpose(0, 1, 3, 2))
    if mask is not None: scores = scores+mask
    return ops.matmul(ops.softmax(scores, axis=-1), split(v)).transpose(0, 2, 1, 3).reshape(n, t, d)


class Block(nn.Cell):
    "Attention and two dense layers, the norm before each; between them attention to `memory_key` and `memory_value`, in a decoder."
    def __init__(self, d, heads, cross=False):
        super().__init__()
        self.heads, self.cross = heads, cross
        self.norm1, self.query, self.key, self.value, self.out = nn.LayerNorm((d,), epsilon=1e-5), nn.Dense(d, d), nn.Dense(d, d, has_bias=False), nn.Dense(d, d), nn.Dense(d, d)
        if cross: self.norm2, self.cross_query, self.cross_out = nn.LayerNorm((d,), epsilon=1e-5), nn.Dense(d, d), nn.Dense(d, d)
        self.norm3, self.up, self.gelu, self.down = nn.LayerNorm((d,), epsilon=1e-5), nn.Dense(d, 4*d), nn.GELU(approximate=False), nn.Dense(4*d, d)

    def rest(self, x, seen, keys, values, mask, memory_key=None, memory_value=None):
        x = x+self.out(attend(self.query(seen), keys, values, self.heads, mask))
        if self.cross: x = x+self.cross_out(attend(self.cross_query(self.norm2(x)), memory_key, memory_value, self.heads))
        return x+self.down(self.gelu(self.up(self.norm3(x))))

    def construct(self, x, mask=None, memory_key=None, memory_value=None):
        seen = self.norm1(x)
        return self.rest(x, seen, self.key(seen), self.value(seen), mask, memory_key, memory_value)

    def step(self, x, here, mask, past_key, past_value, memory_key, memory_value):
        "One position [N,1,d], put into the cache [N,T,d] where `here` [N,T,1] is True."
        seen = self.norm1(x); keys, values = ops.where(here, self.key(seen), past_key), ops.where(here, self.value(seen), past_value)
        return self.rest(x, seen, keys, values, mask, memory_key, memory_value), keys, values


class Encoder(nn.Cell):
    "Features [N,80,3000] -> keys and values of the decoder's cross-attention, [N,blocks,1500,d] each."
    def __init__(self, mels, d, blocks, heads, positions):
        super().__init__()
        self.conv1 = nn.Conv1d(mels, d, 3, pad_mode='pad', padding=1, has_bias=True)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2, pad_mode='pad', padding=1, has_bias=True)
        self.positions, self.gelu = ms.Parameter(ms.Tensor(np.zeros((positions, d), np.float32)), name='positions'), nn.GELU(approximate=False)
        self.blocks, self.norm = nn.CellList([Block(d, heads) for _ in range(blocks)]), nn.LayerNorm((d,), epsilon=1e-5)
        self.memory_key, self.memory_value = nn.CellList([nn.Dense(d, d, has_bias=False) for _ in range(blocks)]), nn.CellList([nn.Dense(d, d) for _ in range(blocks)])

    def construct(self, features):
        x = self.gelu(self.conv2(self.gelu(self.conv1(features)))).transpose(0, 2, 1)+self.positions
        for block in self.blocks: x = block(x)
        x = self.norm(x); keys = values = ()
        for f in self.memory_key: keys += (f(x),)
        for f in self.memory_value: values += (f(x),)
        return ops.stack(keys, 1), ops.stack(values, 1)


class Decoder(nn.Cell):
    "One step: input_ids int32 [N] at position int32 [N] -> logits [N,vocab], and the new cache [N,blocks,T,d] of keys and of values."
    def __init__(self, vocab, d, blocks, heads, positions):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, d), nn.Embedding(positions, d)
        self.blocks, self.norm, self.product = nn.CellList([Block(d, heads, cross=True) for _ in range(blocks)]), nn.LayerNorm((d,), epsilon=1e-5), ops.MatMul(transpose_b=True)

    def construct(self, input_ids, position, past_key, past_value, memory_key, memory_value):
        at, steps = position.expand_dims(1), ops.arange(past_key.shape[2]).astype(ms.int32).expand_dims(0)
        here = ops.equal(steps, at).expand_dims(2)
        mask = ((steps > at).astype(ms.float32)*-10000.0).expand_dims(1).expand_dims(1)
        x = (self.tokens(input_ids)+self.positions(position)).expand_dims(1); keys = values = ()
        for i, block in enumerate(self.blocks):
            x, k, v = block.step(x, here, mask, past_key[:, i], past_value[:, i], memory_key[:, i], memory_value[:, i])
            keys += (k,); values += (v,)
        return self.product(self.norm(x).squeeze(1), self.tokens.embedding_table), ops.stack(keys, 1), ops.stack(values, 1)

    def whole(self, input_ids, memory_key, memory_value):
        "All positions of a text: int32 [N,T] -> [N,T,vocab]."
        n, t = input_ids.shape; at = ops.arange(t)
        mask = (at.expand_dims(0) > at.expand_dims(1)).astype(ms.float32)*-10000.0
        x = self.tokens(input_ids)+self.positions(at.astype(ms.int32)).expand_dims(0)
        for i, block in enumerate(self.blocks): x = block(x, mask, memory_key[:, i], memory_value[:, i])
        return self.product(self.norm(x).reshape(n*t, -1), self.tokens.embedding_table).reshape(n, t, -1)


class Whisper(nn.Cell):
    def __init__(self, vocab=51865, d=512, blocks=6, heads=8, mels=80):
        super().__init__()
        self.encoder, self.decoder = Encoder(mels, d, blocks, heads, FRAMES//2), Decoder(vocab, d, blocks, heads, 448)

    def construct(self, features, input_ids): return self.decoder.whole(input_ids, *self.encoder(features))


# ---- package ----

PARTS_OF = {'self_attention/linear_0': ('query', 'key', 'value'), 'self_attention/linear_1': ('out',), 'ffn/linear_0': ('up',), 'ffn/linear_1': ('down',), 'attention/linear_0': ('cross_query',), 'attention/linear_2': ('cross_out',),
    'self_attention/layer_norm': ('norm1',), 'ffn/layer_norm': ('norm3',), 'attention/layer_norm': ('norm2',)}

def arrays():
    "Arrays under the names of the network above. The package has queries, keys and values of one attention in one matrix."
    res = {}
    for name, a in read_ct2(b''.join((folder(k)/f'model.bin.part{k}').read_bytes() for k in (1, 2))).items():
        if a.dtype != np.float16 or not a.ndim: continue
        a = a.astype(np.float32); side, *inner, what = name.split('/')
        if inner[:1] == ['projection']: continue # the table of the tokens once more
        if not inner[0].startswith('layer_') or inner[0] == 'layer_norm': res |= {'.'.join([side, *inner, what]): a}; continue
        key, n = '/'.join(inner[1:]), inner[0][6:]
        if key == 'attention/linear_1': # of the memory: in our encoder
            res |= {f'encoder.{o}.{n}.{what}': b for o, b in zip(('memory_key', 'memory_value'), np.split(a, 2))}; continue
        names = PARTS_OF[key]; res |= {f'{side}.blocks.{n}.{o}.{what}': b for o, b in zip(names, np.split(a, len(names)))}
    res = {k.replace('layer_norm.', 'norm.').replace('encoder.position_encodings.encodings', 'encoder.positions').replace('decoder.position_encodings.encodings', 'decoder.positions.embedding_table').replace('embeddings.weight', 'tokens.embedding_table'): a for k, a in res.items()}
    return {k: a[:, :, None] if 'conv' in k and a.ndim == 3 else a for k, a in res.items()}


# ---- scores ----

def both(model):
    "Functions that call the two parts; what they hand to each other stays Tensors."
    tensor = lambda x: ms.Tensor(x) if isinstance(x, np.ndarray) else x

    def step(*xs):
        logits, *past = model.decoder(*map(tensor, xs))
        return logits.asnumpy(), *past
    return lambda x: model.encoder(ms.Tensor(x)), step

def hear(model, x): return speech.write(*both(model), x)

def likelihood(model, x, text):
    "Negative log likelihood of each token of a text and of its end."
    ids = text_ids(text)
    return next_token(model(ms.Tensor(x), ms.Tensor(ids)).asnumpy(), ids)[0][0, len(speech.PROMPT)-1:]

def scores(model, part): return summary(part, [likelihood(model, *c) for c in clips(part)], [hear(model, x) for x, _ in clips(part)])


# ---- called by quantnb, by parameter name ----

def get_model(config=None):
    "The pretrained network, in evaluation mode."
    return load(Whisper(), arrays())

def get_inputs(config=None):
    "One clip and its text: float32 [1,80,3000] and int32 [1,T]."
    x, text = clips('calib')[0]
    return ms.Tensor(x), ms.Tensor(text_ids(text))

def calibrate(model, config=None):
    "Write down the calibration clips."
    for x, _ in clips('calib'): hear(model, x)

def float_outputs(part):
    "Nothing of the float network is needed beforehand: words and likelihood are judged by the text itself."

def evaluate(model, config=None): return scores(model, 'search')
def confirm(model, config=None): return scores(model, 'confirm')
def test(model, config=None): return scores(model, 'test')


def check():
    "Print what the float network writes down, beside what is said."
    net = get_model()
    for part in PARTS:
        for k, (x, text) in enumerate(clips(part)):
            if k%len(NOISE[part]) == 0: print(f'{part}: {text!r} | {hear(net, x)!r}', flush=True)
        if part != 'calib': print(part, {k: v for k, v in scores(net, part).items() if k != 'samples'}, flush=True)


if __name__ == '__main__':
    with skipping(): check()
