"""Hostile files, made by a seed: ymls from the grammar, mutated; ONNX files and checkpoints, mutated. Each gives an error with the file (a yml: and the line) and exit code 2, or is read.

By hand, and resumed where it was stopped (what was done is in `--state`):
    python tests/fuzz.py yml 1000
    python tests/fuzz.py onnx 300
    python tests/fuzz.py ckpt 300
`tests/test_fuzz.py` runs a small part of it, and every case that has failed once.
"""
import argparse, contextlib, copy, datetime, json, multiprocessing, os, random, resource, struct, sys, tempfile, time, traceback
from pathlib import Path
from hypothesis import Phase, HealthCheck, given, seed as seeded, settings, strategies as st
os.environ.setdefault('GLOG_v', '4')
HERE = Path(__file__).parent
SECONDS = 20 # that one case may take, on a machine that is shared

# ---- ymls

WORDS = st.sampled_from(['', '.', '..', '/', '../x', '~', 'nas', 'a'*300, 'a\0b', '(', '*', 'a{99999999999}', '(a+)+$', '[', '\\', '\u202e', '\ud83d\ude00', '\n', '%', 'http://[::1', 'http://x:99999999', 'true', 'null', '1e999', '<script>', "'", '"', '{{', '${HOME}', '0x', '2024-13-45', 'env:', 'file:/nowhere']) | st.text(max_size=12)
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, -10**30, 1e308, float('inf'), float('nan'), -.0, 1e-320, 33, 7.5]) | st.integers(-100, 100) | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS | st.just(datetime.date(2024, 1, 1))
VALUES = st.recursive(SCALARS, lambda o: st.lists(o, max_size=4) | st.dictionaries(SCALARS, o, max_size=4), max_leaves=8)
RAW = st.sampled_from(['{', '}', '[', ']', ':', ': ', '- ', '? ', '&a ', '*a', '<<: *a', '!!int abc', '!!timestamp x', '!!binary é', '!!set [a]', '!!omap [a]', '!!python/name:os.system ', '!', '|\n', '>\n', '---\n', '...\n', '%YAML 9.9\n', '\t', '"', "'", '#', ',', '\x01', '\ufeff', '~: 1', '9'*5000, '['*60, '? '*60, '\n', '@', '`', 'a: &a [*a]\n'])

def trees():
    "The grammar's own ymls, as plain values."
    from quantnb.config import read_doc
    from test_config import BASE
    return [read_doc(t).data for t in [BASE, *(p.read_text() for p in sorted((HERE/'data').glob('*.yml')) if p.name!='opt_caption_ms_quant.yml')]]

def paths(v, at=()): return [at, *(p for k,o in (v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ()) for p in paths(o, (*at, k)))]

def known_keys():
    from quantnb.config import LAYOUT
    return sorted({k for ks in LAYOUT.values() for k in ks})

def dumped(v):
    "Values as YAML in flow style, so that anything can be a key."
    if isinstance(v, dict): return '{'+', '.join(f'? {dumped(k)} : {dumped(o)}' for k,o in v.items())+'}'
    if isinstance(v, list): return '['+', '.join(map(dumped, v))+']'
    if isinstance(v, (str,bool)) or v is None: return json.dumps(v)
    if isinstance(v, float): return {'inf':'.inf', '-inf':'-.inf', 'nan':'.nan'}.get(repr(v), repr(v))
    return str(v)

def block(v, n=0):
    "Values as YAML with a line for each key, down to the third level."
    if n>3 or not isinstance(v, dict) or not v: return dumped(v)
    return ''.join(f'\n{" "*n}{k if isinstance(k, str) and k.isidentifier() and k not in ("true","null") else "? "+dumped(k)+chr(10)+" "*n}: {block(o, n+1)}' for k,o in v.items())

def ymls():
    "Strategy of texts: a yml of the grammar with some values, keys, or pieces of its text changed."
    bases,keys = trees(),known_keys()
    @st.composite
    def f(draw):
        t = copy.deepcopy(draw(st.sampled_from(bases)))
        for _ in range(draw(st.integers(0, 3))):
            p = draw(st.sampled_from(paths(t)[1:] or [()]))
            if not p: continue
            up = t
            for k in p[:-1]: up = up[k]
            what = draw(st.sampled_from(['value','value','value','drop','key','more']))
            if what=='value': up[p[-1]] = draw(VALUES)
            elif what=='drop': del up[p[-1]]
            elif isinstance(up, dict): up[draw(st.sampled_from(keys) | SCALARS)] = draw(VALUES) if what=='more' else up.pop(p[-1])
            if not t: break
        text = block(t)
        for _ in range(draw(st.sampled_from([0]*7+[1,2]))):
            i = draw(st.integers(0, len(text))); j = i+draw(st.sampled_from([0,0,1,3,20]))
            text = text[:i]+draw(RAW | st.just(text[i:j]*2))+text[j:]
        return text
    return f()

def look_at_yml(
    text, # Of a yml
    path, # Where it is put
):
    "What `quantnb check` does with a yml, less the names that need MindSpore; a `QuantnbError`, or the configuration."
    from quantnb.config import load, parse
    from quantnb.run.check import look_ahead
    from quantnb.types import ConfigError, QuantnbError
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode(errors='surrogatepass'))
    with contextlib.suppress(QuantnbError): load(path, check_paths=False).to_yaml()
    c = load(path); bad,_ = look_ahead(c)
    if bad: raise ConfigError(bad, str(path))
    return parse(c.to_yaml())

def verdict(f, path):
    "'' if `f` ends as it should, else what is wrong."
    from quantnb.types import ConfigError, QuantnbError
    begun = time.perf_counter()
    try: f()
    except QuantnbError as e:
        if e.exit_code!=2: return f'exit code {e.exit_code}: {e}'
        if str(path) not in str(e) and not any(w in str(e) for w in ('script.py, line ', 'holds NaN or infinite', 'calibration met NaN')): return f'the file is not named: {e}'
        if isinstance(e, ConfigError) and not e.problems: return 'no problem is named'
        if isinstance(e, ConfigError) and not any(o.line or o.key or 'is empty' in o.text or 'needed' in o.text for o in e.problems): return f'no line and no key: {e}'
    except Exception as e: return f'{type(e).__name__}: {str(e)[:300]}\n'+''.join(traceback.format_tb(e.__traceback__)[-4:])
    return f'it took {s:.0f} s' if (s := time.perf_counter()-begun)>SECONDS else ''

def run_ymls(n, seed, folder, show=lambda text, why: None):
    "`n` cases of one seed; what was wrong as pairs of text and reason."
    bad,path = [],Path(folder)/'quant.yml'
    (Path(folder)/'model.py').write_text('def get_model(config): pass\ndef calibrate(model): pass\ndef top1(model, config): pass\n') # what the grammar's yml names
    @seeded(seed)
    @settings(max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(ymls())
    def one(text):
        if why := verdict(lambda: look_at_yml(text, path), path): bad.append((text, why)); show(text, why)
    one(); return bad

# ---- ONNX files and checkpoints

def models():
    "Small ONNX files of several kinds, as bytes."
    import mindspore, numpy as np, onnx
    from onnx import TensorProto as TP, helper as oh, numpy_helper as onp
    r = np.random.default_rng(0); w = lambda *s: (r.standard_normal(s)/np.sqrt(np.prod(s[1:]))).astype(np.float32); N = oh.make_node; io = lambda n, *d, t=TP.FLOAT: oh.make_tensor_value_info(n, t, d)
    def made(nodes, ins, outs, init, opset=17):
        m = oh.make_model(oh.make_graph(nodes, 'g', ins, outs, [onp.from_array(np.asarray(a), k) for k,a in init.items()]), opset_imports=[oh.make_opsetid('', opset)]); m.ir_version = 9; return m.SerializeToString()
    yield made([N('Conv', ['x','a.weight','a.bias'], ['a'], pads=[1]*4), N('BatchNormalization', ['a','g','be','mu','va'], ['b']), N('Relu', ['b'], ['c']), N('Conv', ['c','d.weight'], ['d'], pads=[1]*4, group=4), N('Add', ['c','d'], ['e']), N('GlobalAveragePool', ['e'], ['f']), N('Flatten', ['f'], ['h']), N('Gemm', ['h','fc.weight','fc.bias'], ['y'], transB=1)],
        [io('x','n',1,6,6)], [io('y','n',3)], {'a.weight':w(4,1,3,3), 'a.bias':w(4,1).ravel(), 'g':np.ones(4, np.float32), 'be':np.zeros(4, np.float32), 'mu':np.zeros(4, np.float32), 'va':np.ones(4, np.float32), 'd.weight':w(4,1,3,3), 'fc.weight':w(3,4), 'fc.bias':w(3,1).ravel()})
    yield made([N('Gather', ['table','ids'], ['e']), N('MatMul', ['e','q.weight'], ['q']), N('Transpose', ['q'], ['k'], perm=[0,2,1]), N('MatMul', ['q','k'], ['s']), N('Softmax', ['s'], ['p'], axis=-1), N('MatMul', ['p','e'], ['o']), N('LayerNormalization', ['o','ga','bb'], ['l']), N('Reshape', ['l','shape'], ['f']), N('MatMul', ['f','out.weight'], ['z']), N('Add', ['z','out.bias'], ['y'])],
        [io('ids','n',3, t=TP.INT64)], [io('y','n',5)], {'table':w(7,4), 'q.weight':w(4,4), 'ga':np.ones(4, np.float32), 'bb':np.zeros(4, np.float32), 'shape':np.array([-1,12]), 'out.weight':w(12,5), 'out.bias':w(5,1).ravel()})
    yield made([N('Conv', ['x','a.weight'], ['a']), N('Clip', ['a','lo','hi'], ['b']), N('MaxPool', ['b'], ['c'], kernel_shape=[2,2], strides=[2,2]), N('Resize', ['c','','scales'], ['d'], mode='nearest'), N('Slice', ['d','from','to','axes'], ['e']), N('Squeeze', ['e'], ['f'], axes=[1]), N('ReduceMean', ['f'], ['y'], axes=[1])],
        [io('x','n',2,5,5)], [io('y',None,None,None)], {'a.weight':w(3,2,2,2), 'lo':np.float32(0), 'hi':np.float32(6), 'scales':np.array([1,1,2,2], np.float32), 'from':np.array([0]), 'to':np.array([1]), 'axes':np.array([1])}, 11)

NUMBERS_OF_ONNX = [0, 1, -1, 2, 3, 7, 2**31-1, -2**31, 2**40, 2**62]
def mutate_onnx(raw, rng):
    "One to three changes: of bytes, or of the model's parts."
    import onnx
    if rng.random()<.35: return mutate_bytes(raw, rng)
    m = onnx.load_from_string(raw); g = m.graph; pick = lambda o: o[rng.randrange(len(o))] if len(o) else None
    names = [*(o for n in g.node for o in n.output), *(t.name for t in g.initializer), *(v.name for v in g.input), '', 'nowhere', 'a'*300, '../../x', '<script>']; ops = ['Conv','Gemm','MatMul','Relu','Reshape','Loop','If','Nothing','QuantizeLinear','BatchNormalization','Constant','LSTM','']
    def node(): n = pick(g.node); k = rng.randrange(6); return n.ClearField('input') if k==0 else n.input.append(rng.choice(names)) if k==1 else setattr(n, 'op_type', rng.choice(ops)) if k==2 else setattr(n, 'domain', rng.choice(['com.x','ai.onnx.ml'])) if k==3 else n.ClearField('output') if k==4 else n.ClearField('attribute')
    def wire(): n = pick(g.node); xs = n.input if rng.random()<.7 else n.output; xs.__setitem__(rng.randrange(len(xs)), rng.choice(names)) if len(xs) else None
    def attribute():
        a = pick(pick(g.node).attribute)
        if a is None: return
        if len(a.ints): a.ints[rng.randrange(len(a.ints))] = rng.choice(NUMBERS_OF_ONNX)
        else: a.i = rng.choice(NUMBERS_OF_ONNX); a.type = rng.randrange(16)
    def tensor():
        t = pick(g.initializer); k = rng.randrange(7)
        if t is None: return
        if k==0 and len(t.dims): t.dims[rng.randrange(len(t.dims))] = rng.choice(NUMBERS_OF_ONNX)
        elif k==1: t.raw_data = t.raw_data[:rng.randrange(len(t.raw_data)+1)]
        elif k==2: t.data_type = rng.randrange(30)
        elif k==3: t.raw_data = struct.pack('<f', rng.choice([float('nan'), float('inf'), 1e38, 0.]))*(len(t.raw_data)//4)
        elif k==4: t.data_location = 1; e = t.external_data.add(); e.key,e.value = 'location',rng.choice(['/etc/passwd','../../../etc/passwd','w.bin','.',''])
        elif k==5: t.name = rng.choice(names)
        else: g.initializer.remove(t)
    def shape():
        v = pick([*g.input, *g.output]); d = pick(v.type.tensor_type.shape.dim)
        if d is not None: d.dim_value = rng.choice(NUMBERS_OF_ONNX)
    def kind(): pick([*g.input, *g.output]).type.tensor_type.elem_type = rng.randrange(30)
    def order(): i = rng.randrange(len(g.node)); n = type(g.node[0])(); n.CopyFrom(g.node[i]); del g.node[i]; g.node.insert(rng.randrange(len(g.node)+1), n) if rng.random()<.6 else None
    def head(): m.opset_import[0].version = rng.choice([0, 1, 7, 11, 18, 21, 99, -1]); m.ir_version = rng.choice([0, 3, 9, 99])
    def inputs(): (g.input if rng.random()<.5 else g.output).pop() if len(g.input)+len(g.output)>1 and len(g.input) and len(g.output) else None
    for _ in range(rng.choice((1,1,2,3))): rng.choice((node, wire, attribute, tensor, tensor, shape, kind, order, head, inputs))()
    return m.SerializeToString()

def mutate_bytes(raw, rng):
    b = bytearray(raw)
    for _ in range(rng.choice((1,1,2,5,20))):
        k,i = rng.randrange(5),rng.randrange(max(1, len(b)))
        if k==0: b[i:i+1] = bytes([rng.randrange(256)])
        elif k==1: b[i:i+1] = bytes([b[i]^(1<<rng.randrange(8))]) if b else b''
        elif k==2: del b[i:i+rng.choice((1,4,64,len(b)))]
        elif k==3: b[i:i] = bytes(rng.randrange(256) for _ in range(rng.choice((1,4,64))))
        else: b[i:i] = b[i:i+rng.choice((4,64,512))]
    return bytes(b)

def look_at_onnx(raw, path):
    "What a search does with a file before its first episode: read, calibrate, write at 8 and at 4 bits, run that."
    from quantnb.deploy.onnx_engine import FileEngine, OnnxFile
    from quantnb.graph.ir import select
    from quantnb.types import InputError, Strategy
    Path(path).write_bytes(raw); f = OnnxFile(path); xs = f.example(); f.read(xs); g = select(f.graph)
    if not g.quantizable: return
    e = FileEngine(f, g, xs); e.calibrate(lambda net: net(*xs))
    for b in (8,4): e.net(Strategy.uniform([l.path for l in g.quantizable], b, 8))(*xs)

def checkpoint(path):
    "A small checkpoint."
    import mindspore as ms
    from mindspore import nn
    ms.save_checkpoint(nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.Dense(4, 3)), str(path)); return Path(path).read_bytes()

CKPT_SCRIPT = 'import mindspore as ms\nfrom mindspore import nn\ndef get_model(config):\n    net = nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.Dense(4, 3)); ms.load_param_into_net(net, ms.load_checkpoint({!r}), strict_load=True); return net\n'
def look_at_ckpt(raw, path):
    "A script that loads the checkpoint, as `quantnb run` calls it."
    from quantnb.script import ask
    Path(path).write_bytes(raw); ns = {}; exec(compile(CKPT_SCRIPT.format(str(path)), str(Path(path).with_name('script.py')), 'exec'), ns)
    ask(ns['get_model'], config={})

def worker(kind, folder, pipe):
    "Cases come as bytes; each is answered with what was wrong. A process of its own: what is read here can end one."
    resource.setrlimit(resource.RLIMIT_AS, (16<<30, 16<<30)); os.chdir(folder); fd = os.open(os.devnull, os.O_WRONLY); os.dup2(fd, 2); os.dup2(fd, 1)
    import mindspore
    look,path = dict(onnx=look_at_onnx, ckpt=look_at_ckpt)[kind],Path(folder)/f'net.{kind}'; pipe.send('')
    while True: raw = pipe.recv_bytes(); pipe.send(verdict(lambda: look(raw, path), path))

class Isolated:
    "A worker that is started again when a case has ended it."
    def __init__(self, kind, folder): self.kind,self.folder,self.process = kind,folder,None
    def __call__(self, raw):
        if self.process is None:
            c = multiprocessing.get_context('spawn'); self.pipe,there = c.Pipe(); self.process = c.Process(target=worker, args=(self.kind, str(self.folder), there), daemon=True); self.process.start(); there.close(); self.pipe.recv()
        try:
            self.pipe.send_bytes(raw)
            if self.pipe.poll(2*SECONDS): return self.pipe.recv()
            why = f'nothing within {2*SECONDS} s'
        except (EOFError,ConnectionError): self.process.join(); why = f'the process ended, code {self.process.exitcode}'
        self.close(); return why
    def close(self):
        if self.process is not None: self.process.kill(); self.process.join(); self.process = None

def case(kind, bases, seed, k): rng = random.Random(f'{kind} {seed} {k}'); return (mutate_onnx if kind=='onnx' else mutate_bytes)(rng.choice(bases), rng)
def bases_of(kind, folder): return list(models()) if kind=='onnx' else [checkpoint(Path(folder)/'base.ckpt')]

def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0]); a.add_argument('kind', choices=['yml','onnx','ckpt']); a.add_argument('n', type=int); a.add_argument('--seed', type=int, default=1); a.add_argument('--state', type=Path, default=Path('fuzz.json')); a = a.parse_args()
    state = json.loads(a.state.read_text()) if a.state.exists() else {}; done = state.setdefault(f'{a.kind} {a.seed}', dict(n=0, bad=[])); a.state = a.state.resolve(); folder = tempfile.mkdtemp(prefix='fuzz'); os.chdir(folder); begun = time.monotonic()
    def keep(): tmp = a.state.with_suffix('.tmp'); tmp.write_text(json.dumps(state)); tmp.replace(a.state)
    before = {'model.py','quant.yml','base.ckpt','script.py'}|{f'net.{a.kind}'}
    bases,one = ([],None) if a.kind=='yml' else (bases_of(a.kind, folder),Isolated(a.kind, folder))
    while done['n']<a.n:
        k = done['n']
        if a.kind=='yml': new = run_ymls(min(50, a.n-k), 10_000*a.seed+k, folder); done['bad'] += [(f'{k}+', t, why) for t,why in new]; done['n'] += min(50, a.n-k)
        else:
            if why := one(case(a.kind, bases, a.seed, k)): done['bad'].append((k, '', why)); print(k, why, flush=True)
            done['n'] += 1
        keep()
    if one: one.close()
    new = {f for f in os.listdir(folder)}-before
    for k,text,why in done['bad']: print(f'case {k}: {why}\n{text[:2000]}')
    print(f'{done["n"]} {a.kind} files of seed {a.seed} in {time.monotonic()-begun:.0f} s: {len(done["bad"])} failed'+(f'; files that were left: {sorted(new)}' if new else '')); return bool(done['bad'] or new)

if __name__=='__main__': sys.path.insert(0, str(HERE)); sys.exit(main())
