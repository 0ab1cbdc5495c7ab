"""Hostile files, made by a seed: ymls from the grammar, mutated; ONNX files and checkpoints, mutated. Each gives an error with the file (a yml: and the line) and exit code 2, or is read.

By hand, and resumed where it was stopped (what was done is in `--state`):
    python tests/fuzz.py yml 1000
    python tests/fuzz.py onnx 300
    python tests/fuzz.py ckpt 300
`tests/test_fuzz.py` runs a small part of it, and every case that has failed once.
"""
import argparse, contextlib, copy, datetime, json, multiprocessing, os, random, signal, struct, sys, tempfile, time, traceback
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
        if str(path) not in str(e): return f'the file is not named: {e}'
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
