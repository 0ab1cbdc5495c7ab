"""A small network of the structure of Zidong Taichu's OPT for captions: a UNITER encoder, a transformer, beam search.

    patches [B,P,d] -> linear, position and type embeddings -> encoder -> linear -> transformer: encoder, decoder -> ids [B,T]

`encoder` and `decoder` are Cells of their own, with the key/value cache as outputs and inputs. Calling the network runs the
beam search over them in Python; `construct` is the same search for one beam written out step by step, for an export as one graph.
"""
import math

import numpy as np
import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal

END = 0


class Linear(nn.Dense):
    "A dense layer that multiplies in half precision; float32 in and out."
    def __init__(self, in_channels, out_channels, compute_type=ms.float16):
        super().__init__(in_channels, out_channels, weight_init=Normal(.02), bias_init='zeros')
        self.compute_type, self.multiply = compute_type, ops.MatMul(transpose_b=True)

    def construct(self, x):
        shape = x.shape
        x = ops.cast(x.reshape((-1, shape[-1])), self.compute_type)
        y = self.multiply(x, ops.cast(self.weight, self.compute_type))
        return (ops.cast(y, ms.float32) + self.bias).reshape(shape[:-1] + (self.out_channels,))


def dense(d_in, d_out): return nn.Dense(d_in, d_out, weight_init=Normal(.02), bias_init='zeros')
def norm(width): return nn.LayerNorm((width,), epsilon=1e-5)


def attend(q, k, v,  # [B,S,H], [B,T,H], [B,T,H]
           heads,
           bias):    # [B,1,1 or S,T], added to the scores: 0, or very negative where there is nothing to see
    "Attention of several heads: [B,S,H]."
    b, s, h = q.shape
    t, d = k.shape[1], h//heads
    q = q.reshape((b, s, heads, d)).transpose((0, 2, 1, 3))
    k = k.reshape((b, t, heads, d)).transpose((0, 2, 3, 1))
    v = v.reshape((b, t, heads, d)).transpose((0, 2, 1, 3))
    p = ops.softmax(ops.BatchMatMul()(q, k)*(1/math.sqrt(d)) + bias, -1)
    return ops.BatchMatMul()(p, v).transpose((0, 2, 1, 3)).reshape((b, s, h))


def unseen(mask): # 1 or True where something is
    "What to add to scores."
    return (1 - ops.cast(mask, ms.float32))*-10000.


class BertLayer(nn.Cell):
    "Self-attention and feed-forward with the norm behind each, as in UNITER."
    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (dense(width, width) for _ in range(4))
        self.intermediate, self.down = dense(width, inner), dense(inner, width)
        self.norm1, self.norm2 = norm(width), norm(width)

    def construct(self, x, bias):
        x = self.norm1(x + self.output(attend(self.query(x), self.key(x), self.value(x), self.heads, bias)))
        return self.norm2(x + self.down(ops.GeLU()(self.intermediate(x))))


class ImageEmbeddings(nn.Cell):
    "Patches [B,P,d_in] with their positions [1,P] -> [B,P,width]."
    def __init__(self, d_in, width, patches):
        super().__init__()
        self.img_linear, self.img_norm = dense(d_in, width), norm(width)
        self.position_embeddings = nn.Embedding(patches, width, embedding_table=Normal(.5))  # beside features of deviation 1
        self.type_embeddings = nn.Embedding(2, width, embedding_table=Normal(.02))  # text 0, image 1
        self.norm = norm(width)

    def construct(self, img_feat, img_pos_feat):
        x = self.img_norm(self.img_linear(img_feat)) + self.position_embeddings(img_pos_feat)
        return self.norm(x + self.type_embeddings(ops.ones_like(img_pos_feat)))


class UniterModel(nn.Cell):
    "The four inputs -> [B,P,width]."
    def __init__(self, d_in, width, heads, inner, layers, patches):
        super().__init__()
        self.img_embeddings = ImageEmbeddings(d_in, width, patches)
        self.layers = nn.CellList([BertLayer(width, heads, inner) for _ in range(layers)])

    def construct(self, img_feat, img_pos_feat, attention_mask, gather_index):
        x = self.img_embeddings(img_feat, img_pos_feat)
        index = ops.broadcast_to(gather_index.expand_dims(2), gather_index.shape + x.shape[2:])
        x = ops.gather_elements(x, 1, index)  # kept patches first
        bias = unseen(attention_mask).expand_dims(1).expand_dims(1)
        for layer in self.layers: x = layer(x, bias)
        return x


class EncoderLayer(nn.Cell):
    "Self-attention and feed-forward with the norm in front of each, in half precision."
    def __init__(self, width, heads, inner, compute_type):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.projection = (Linear(width, width, compute_type) for _ in range(4))
        self.mapping, self.back = Linear(width, inner, compute_type), Linear(inner, width, compute_type)
        self.norm1, self.norm2 = norm(width), norm(width)

    def construct(self, x, bias):
        y = self.norm1(x)
        x = x + self.projection(attend(self.query(y), self.key(y), self.value(y), self.heads, bias))
        return x + self.back(ops.GeLU()(self.mapping(self.norm2(x))))


class Encoder(nn.Cell):
    "The four inputs -> keys and values for the decoder's cross-attention [B,L,P,H] each: all it has to know of the picture."
    def __init__(self, c, d_in, compute_type):
        super().__init__()
        self.uniter = UniterModel(d_in, c.hidden_size, c.num_attention_heads, c.intermediate_size, c.num_hidden_layers, c.patches)
        self.txt_linear = dense(c.hidden_size, c.txt_hidden_size)
        h = c.txt_hidden_size
        self.layers = nn.CellList([EncoderLayer(h, c.txt_heads, c.txt_inner_size, compute_type) for _ in range(c.txt_encoder_layers)])
        self.norm = norm(h)
        self.memory_key = nn.CellList([Linear(h, h, compute_type) for _ in range(c.txt_decoder_layers)])
        self.memory_value = nn.CellList([Linear(h, h, compute_type) for _ in range(c.txt_decoder_layers)])

    def memory(self, x, attention_mask):
        x, bias = self.txt_linear(x), unseen(attention_mask).expand_dims(1).expand_dims(1)
        for layer in self.layers: x = layer(x, bias)
        x = self.norm(x)
        keys = values = ()
        for f in self.memory_key: keys += (f(x),)
        for f in self.memory_value: values += (f(x),)
        return ops.stack(keys, 1), ops.stack(values, 1)

    def construct(self, img_feat, img_pos_feat, attention_mask, gather_index):
        return self.memory(self.uniter(img_feat, img_pos_feat, attention_mask, gather_index), attention_mask)


class DecoderLayer(nn.Cell):
    "Self-attention, cross-attention to the picture, feed-forward; the norm in front of each, in half precision."
    def __init__(self, width, heads, inner, compute_type):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.projection = (Linear(width, width, compute_type) for _ in range(4))
        self.cross_query, self.cross_projection = (Linear(width, width, compute_type) for _ in range(2))
        self.mapping, self.back = Linear(width, inner, compute_type), Linear(inner, width, compute_type)
        self.norm1, self.norm2, self.norm3 = norm(width), norm(width), norm(width)

    def rest(self, x, seen, keys, values, seen_bias, memory_key, memory_value, memory_bias):
        x = x + self.projection(attend(self.query(seen), keys, values, self.heads, seen_bias))
        x = x + self.cross_projection(attend(self.cross_query(self.norm2(x)), memory_key, memory_value, self.heads, memory_bias))
        return x + self.back(ops.GeLU()(self.mapping(self.norm3(x))))

    def construct(self, x, bias, memory_key, memory_value, memory_bias):
        "All positions at once: [B,T,H]."
        y = self.norm1(x)
        return self.rest(x, y, self.key(y), self.value(y), bias, memory_key, memory_value, memory_bias)

    def step(self, x, here, bias, past_key, past_value, memory_key, memory_value, memory_bias):
        "One position [B,1,H], written into the cache [B,T,H] where `here` [B,T,1] is True."
        y = self.norm1(x)
        keys, values = ops.where(here, self.key(y), past_key), ops.where(here, self.value(y), past_value)
        return self.rest(x, y, keys, values, bias, memory_key, memory_value, memory_bias), keys, values


class Decoder(nn.Cell):
    "One step: ids [B] at positions [B] -> scores [B,V] and the new cache [B,L,T,H] of keys and of values."
    def __init__(self, c, compute_type):
        super().__init__()
        h = c.txt_hidden_size
        self.length = c.max_length
        self.word_embeddings = nn.Embedding(c.vocab_size, h, embedding_table=Normal(.02))
        self.position_embeddings = nn.Embedding(c.max_length, h, embedding_table=Normal(.02))
        self.layers = nn.CellList([DecoderLayer(h, c.txt_heads, c.txt_inner_size, compute_type) for _ in range(c.txt_decoder_layers)])
        self.norm, self.head = norm(h), Linear(h, c.vocab_size, compute_type)
        self.steps = ms.Tensor(np.arange(c.max_length, dtype=np.int32)[None])

    def construct(self, ids, position, past_key, past_value, memory_key, memory_value, attention_mask):
        x = (self.word_embeddings(ids) + self.position_embeddings(position)).expand_dims(1)
        at = position.expand_dims(1)
        here = ops.equal(self.steps, at).expand_dims(2)
        bias = unseen(ops.less_equal(self.steps, at)).expand_dims(1).expand_dims(1)
        memory_bias = unseen(attention_mask).expand_dims(1).expand_dims(1)
        keys = values = ()
        for i, layer in enumerate(self.layers):
            x, k, v = layer.step(x, here, bias, past_key[:, i], past_value[:, i], memory_key[:, i], memory_value[:, i], memory_bias)
            keys += (k,); values += (v,)
        return self.head(self.norm(x)).squeeze(1), ops.stack(keys, 1), ops.stack(values, 1)

    def all(self, ids, memory_key, memory_value, attention_mask):
        "Scores of every position at once, without a cache: ids [B,T] -> [B,T,V]. For training."
        t = ids.shape[1]
        x = self.word_embeddings(ids) + self.position_embeddings(self.steps[:, :t])
        bias = unseen(ops.less_equal(self.steps[:, :t], self.steps[0, :t].expand_dims(1))).expand_dims(0).expand_dims(0)
        memory_bias = unseen(attention_mask).expand_dims(1).expand_dims(1)
        for i, layer in enumerate(self.layers): x = layer(x, bias, memory_key[:, i], memory_value[:, i], memory_bias)
        return self.head(self.norm(x))


class CaptionNet(nn.Cell):
    "Pictures -> captions: `img_feat` [B,P,d], `img_pos_feat` [1,P], `attention_mask` [B,P], `gather_index` [B,P] -> ids [B,T]."
    def __init__(self,
                 c,              # widths and numbers of layers, `max_length`, `vocab_size`, `patches`
                 d_in,           # width of a row of `img_feat`
                 beam_width=1,
                 start=END,      # the id a caption starts with
                 compute_type=ms.float16):
        super().__init__()
        self.encoder, self.decoder = Encoder(c, d_in, compute_type), Decoder(c, compute_type)
        self.beam_width, self.start, self.length = beam_width, start, c.max_length
        self.blank = ms.Tensor(np.zeros((1, 1, c.max_length, 1), np.float32))

    def construct(self, img_feat, img_pos_feat, attention_mask, gather_index):
        "One beam, all steps written out: what an export sees. A caption that has ended goes on with `END`."
        memory_key, memory_value = self.encoder(img_feat, img_pos_feat, attention_mask, gather_index)
        keys = values = memory_key[:, :, :1]*self.blank
        zero = attention_mask[:, 0]*0
        ids, more, res = zero + self.start, zero + 1, ()
        for t in range(self.length):
            scores, keys, values = self.decoder(ids, zero + t, keys, values, memory_key, memory_value, attention_mask)
            ids = ops.cast(ops.argmax(scores, -1), ms.int32)*more
            more = more*ops.cast(ops.not_equal(ids, END), ms.int32)
            res += (ids,)
        return ops.stack(res, 1)

    def __call__(self, img_feat, img_pos_feat, attention_mask, gather_index):
        return ms.Tensor(self.search(img_feat, img_pos_feat, attention_mask, gather_index, self.beam_width))

    def search(self, img_feat, img_pos_feat, attention_mask, gather_index,
               width=1,     # beams; the caption with the best mean log probability of a piece is taken
               cache=True): # False computes all positions again in every step: slow, for comparison
        "Beam search; ids as int32 array [B,T], `END` behind the end."
        b, length = len(img_feat), self.length
        memory = self.encoder(img_feat, img_pos_feat, attention_mask, gather_index)
        rows = np.arange(b).repeat(width)
        if width > 1:
            memory = [ops.gather(m, ms.Tensor(rows, ms.int32), 0) for m in memory]
            attention_mask = ops.gather(attention_mask, ms.Tensor(rows, ms.int32), 0)
        past = [ms.Tensor(np.zeros((b*width, memory[0].shape[1], length, memory[0].shape[3]), np.float32))]*2
        ids = np.full((b*width, 1), self.start, np.int32)
        total = np.where(np.arange(width) > 0, -np.inf, 0.)*np.ones((b, 1))  # of [B,width]; one beam at the start
        done, size = np.zeros((b, width), bool), np.zeros((b, width))
        for t in range(length):
            if cache:
                scores, *past = self.decoder(ms.Tensor(ids[:, -1]), ms.Tensor(np.full(b*width, t, np.int32)), *past, *memory, attention_mask)
                scores = scores.asnumpy()
            else: scores = self.decoder.all(ms.Tensor(ids), *memory, attention_mask).asnumpy()[:, -1]
            v = scores.shape[1]
            p = scores - scores.max(1, keepdims=True)
            p = (p - np.log(np.exp(p).sum(1, keepdims=True))).reshape(b, width, v)
            p[done] = -np.inf
            p[done, END] = 0
            best = (-(total[:, :, None] + p)).reshape(b, width*v).argsort(1, kind='stable')[:, :width] if width > 1 else p[:, 0].argmax(1)[:, None]
            total = np.take_along_axis((total[:, :, None] + p).reshape(b, width*v), best, 1)
            parent, new = best//v, (best % v).astype(np.int32)
            size = np.take_along_axis(size + ~done, parent, 1)
            done = np.take_along_axis(done, parent, 1) | (new == END)
            if width > 1:
                rows = (parent + np.arange(b)[:, None]*width).ravel()
                ids = ids[rows]
                if cache and t < length - 1: past = [ops.gather(o, ms.Tensor(rows, ms.int32), 0) for o in past]
            ids = np.concatenate([ids, new.reshape(-1, 1)], 1)
            if done.all(): break
        best = (total/size).argmax(1) + np.arange(b)*width
        res = np.full((b, length), END, np.int32)
        res[:, :ids.shape[1] - 1] = ids[best, 1:]
        return res
