"The seed's own task: its yml, the scenes, and a small caption network with cache and beams, float and quantized."
import itertools, json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pytest
import mindspore as ms
from mindspore import nn
from ruamel.yaml import YAML
from quantnb.deploy.engine import OrtEngine
from quantnb.deploy.facade import Deployed
from quantnb.deploy.mindir import load
from quantnb.graph.ir import read_graph
from quantnb.quant.qnet import QuantNet
from quantnb.quant.recipe import Recipe
from quantnb.run import cli, report
from quantnb.run.cli import main
from quantnb.types import Strategy

HERE = Path(__file__).parent
EXAMPLE = HERE.parent/'examples'/'caption'

@pytest.fixture(scope='module', autouse=True)
def example():
    "The example's package, which is called `src` as in the seed."
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))
    for k in [k for k in sys.modules if k in ('src','generate','train','prepare') or k.startswith('src.')]: del sys.modules[k]

@pytest.fixture
def pynative():
    "Without a cache every step has another shape, and graph mode would compile each of them."
    old = ms.get_context('mode'); ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=old)

# ---- the yml

MAY_DIFFER = {'pkg_path','file_config','ckpt_file','output_dir','data_url','train_url','local_base_path','task_id','remote_host'}

def leaves(v, path=()):
    items = v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else None
    if items is None: yield path,v
    else:
        for k,o in items: yield from leaves(o, (*path, k))

def test_the_yml_is_the_seeds_but_for_paths_host_and_task():
    ours,seed = (EXAMPLE/'opt_caption_ms_quant.yml'),(HERE/'data'/'opt_caption_ms_quant.yml')
    a,b = (dict(leaves(YAML(typ='safe').load(f.read_text()))) for f in (ours, seed))
    assert list(a)==list(b), 'another key, or another order'
    for path in a:
        if a[path]!=b[path]: assert MAY_DIFFER & set(path), path
    lines = [f.read_text().splitlines() for f in (ours, seed)]
    assert len(lines[0])==len(lines[1])
    for x,y in zip(*lines):
        if x!=y: assert x.split(':')[0].strip() in MAY_DIFFER and x.split('#')[1:]==y.split('#')[1:]

# ---- scenes and captions

def test_every_caption_fits_and_reads_back():
    from src.data import grammar as g
    for cells in itertools.product((None,0,4,8,9), repeat=4):
        scene = {c:k for c,k in enumerate(cells) if k is not None}
        for lang in g.LANGUAGES if scene else ():
            said = [g.encode(c) for c in g.captions(scene, lang)]
            assert len(said)==5 and all(len(o)<=g.MAX_LENGTH and o[-1]==g.END for o in said)
            assert len({g.decode(o, lang) for o in said})>=4
    assert g.decode(g.encode(g.captions({0:8, 1:8, 3:6}, 'zh')[0]), 'zh')=='上面有两个包，右下角有一件衬衫'
    assert g.decode(g.encode(g.captions({0:8, 1:8, 3:6}, 'en')[0]), 'en')=='two bags at the top , a shirt at the bottom right'

def test_the_parts_are_made_of_different_items():
    with np.load(EXAMPLE/'caption.npz') as z:
        held_out = np.concatenate([z[f'{p}_index'] for p in ('calib','search','confirm')])
        items = np.concatenate([z[f'{p}_items'] for p in ('calib','search','confirm','test')])
    assert len(set(held_out.tolist()))==len(held_out) and len(np.unique(items, axis=0))==len(items)

def test_inputs_have_the_seeds_form():
    from src.data import scenes
    s = scenes.load(str(EXAMPLE/'caption.npz'), 'search', 40)
    feat,pos,mask,index = next(s.batches(40))
    assert feat.shape==(40,17,256) and pos.shape==(1,17) and mask.shape==index.shape==(40,17)
    assert (feat.dtype,pos.dtype,mask.dtype,index.dtype)==(np.float32,np.int32,np.int32,np.int32)
    for row,(m,i,f) in zip(s.scenes, zip(mask, index, feat)):
        kept = set(i[m>0]); assert 0 in kept and (np.diff(m)<=0).all()
        for p in range(1, 17): assert (p in kept)==bool((f[p]>f[p].min()).any())
        assert {(p-1)//8*2+(p-1)%4//2 for p in kept if p}==set(row), 'patches of cells that hold something'

# ---- the network

SMALL = dict(hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=1, patches=17, txt_hidden_size=24, txt_heads=2,
    txt_inner_size=48, txt_encoder_layers=1, txt_decoder_layers=1, max_length=5, vocab_size=30)

def small(beam_width=1, compute_type=ms.float16, seed=0, **other):
    from src.model_mindspore.caption_ms import CaptionNet
    ms.set_seed(seed); net = CaptionNet(SimpleNamespace(**SMALL|other), 256, beam_width, compute_type=compute_type).set_train(False)
    rng = np.random.default_rng(seed) # weights large enough for captions that differ and end
    for p in net.get_parameters():
        if p.ndim==2: p.set_data(ms.Tensor(rng.normal(size=p.shape).astype(np.float32)*1.5/np.sqrt(p.shape[1])))
    return net

def batch(n=12):
    from src.data import scenes
    return tuple(ms.Tensor(o) for o in next(scenes.load(str(EXAMPLE/'caption.npz'), 'calib').batches(n)))

@pytest.mark.parametrize('width', [1,3])
def test_the_cache_changes_nothing(width, pynative):
    net,x = small(width),batch()
    ids = net(*x).asnumpy()
    assert ids.shape==(12,5) and len(np.unique(ids, axis=0))>3
    np.testing.assert_array_equal(ids, net.search(*x, width=width, cache=False))
    ended = np.cumsum(ids==0, 1)-(ids==0)>0
    assert not ids[ended].any(), 'nothing follows the end'

def test_construct_is_the_search_for_one_beam():
    net,x = small(),batch()
    np.testing.assert_array_equal(nn.Cell.__call__(net, *x).asnumpy(), net(*x).asnumpy())

def test_more_beams_find_what_is_at_least_as_likely(pynative):
    net,x = small(compute_type=ms.float32),batch()
    def score(ids):
        ids = np.asarray(ids); said = np.concatenate([np.zeros((len(ids),1), np.int32), ids[:,:-1]], 1)
        s = net.decoder.all(ms.Tensor(said), *net.encoder(*x), x[2]).asnumpy(); s = s-s.max(-1, keepdims=True)
        p = np.take_along_axis(s-np.log(np.exp(s).sum(-1, keepdims=True)), ids[:,:,None], 2)[:,:,0]
        there = np.cumsum(ids==0, 1)-(ids==0)==0
        return (p*there).sum(1)/there.sum(1)
    few,many = (score(net.search(*x, width=w)) for w in (1,6))
    assert many.mean()>few.mean() and (many>=few-1e-5).mean()>.8

def test_every_linear_layer_is_found_and_quantized_with_cache_and_beams(pynative):
    net,x = small(),batch(2)
    dense = {p for p,c in net.cells_and_names() if isinstance(c, nn.Dense)}
    g = read_graph(net, x); q = QuantNet(net, g, x)
    tables = {f'{p}.embedding_table' for p,c in net.cells_and_names() if isinstance(c, nn.Embedding)}; assert {l.path for l in q.graph.quantizable if not l.table}==dense and {l.path for l in q.graph.quantizable if l.table}=={t for t in tables if 'type_embeddings' not in t} # of which a constant is read
    assert {l.kind for l in q.graph.layers if not l.quantizable}=={'matmul','embedding'}
    assert {'Softmax','LayerNorm','GeLU'}<=set(q.graph.others())
    assert all(l.calls==5 for l in q.graph.quantizable if l.path.startswith('decoder.') and not l.table)
    q.calibrate(lambda m: m(*batch()).asnumpy())
    model = q.net(Strategy.uniform(list(dense), 4, 4)); x = batch()
    ids = model(*x).asnumpy()
    assert (ids!=net(*x).asnumpy()).any(), 'four bits change something'
    for w in (1,3): np.testing.assert_array_equal(model.search(*x, width=w), model.search(*x, width=w, cache=False))

def test_candidates_are_scored_with_several_beams(pynative):
    net,x,many = small(3),batch(2),batch(40)
    e = OrtEngine(net, read_graph(net, x), x, recipe=Recipe(rounding='nearest')); e.calibrate(lambda m: m(*many).asnumpy())
    s = Strategy.uniform([l.path for l in e.graph.quantizable], 4, 8)
    assert 0<e.divergence_of(s)<1
    a,b = e.net(s)(*many).asnumpy(),e.sim.net(s)(*many).asnumpy()
    plain = e.net(None)(*many).asnumpy(); np.testing.assert_array_equal(plain, net(*many).asnumpy()) # float files and the float16 network
    assert (a==b).all(1).mean()>=.9 and (a!=plain).any()
    np.testing.assert_array_equal(a, e.net(s).search(*many, width=3))

# ---- encoder and one step by themselves

def test_a_loop_over_the_exported_parts_captions_as_the_network(tmp_path, pynative):
    import generate
    net,x,many = small(compute_type=ms.float32),batch(2),batch(40) # in float16 the float encoders differ by .005, and as many activations fall on the other of two integers: 5 of 40 captions turned on one processor
    sim = QuantNet(net, read_graph(net, x), x); sim.calibrate(lambda m: m(*many).asnumpy())
    d = Deployed(net, sim.quantizer, x); d.net(None).search(*many)
    assert list(d.entries)==['','encoder','decoder'] and d.entries['encoder'][0].rowwise, 'one row of positions serves any batch'
    said = []
    tables = Strategy({l.path:(4,32) for l in sim.graph.quantizable if l.table}); assert (sim.net(tables)(*many).asnumpy()==d.net(tables).search(*many)).all(), 'looked up alike to the bit'
    for s,least in ((None,1.), (Strategy.uniform([l.path for l in sim.graph.quantizable if not l.table], 4, 8),.95), (Strategy.uniform(sim.graph.quantizable, 4, 8),.95)): # activations that lie between two integers are rounded either way, and a beam turns
        for k,m in d.files(s).items(): (tmp_path/k).write_bytes(m)
        say = generate.Captioner(tmp_path); said.append(say(*(o.asnumpy() for o in many)))
        assert (said[-1]==sim.net(s)(*many).asnumpy()).all(1).mean()>=least
        np.testing.assert_array_equal(said[-1], d.net(s).search(*many))
    assert (said[0]!=said[1]).any(), 'four bits change something'
    ins,outs = say.decoder.get_inputs(),say.decoder.get_outputs()
    assert [i.name for i in ins[2:4]]==['past_key','past_value'] and [o.shape[1:] for o in outs[1:]]==[i.shape[1:] for i in ins[2:4]]==[[1,5,24]]*2

    parts = {k:load(m) for k,m in d.mindirs(s).items()}; q = sim.net(s); same = lambda a,b: np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=5e-3)
    assert sorted(parts)==['model.decoder.mindir','model.encoder.mindir']
    memory = q.encoder(*x); past = [ms.Tensor(np.zeros((2,1,5,24), np.float32))]*2; at = lambda t: ms.Tensor(np.full(2, t, np.int32))
    for a,b in zip(parts['model.encoder.mindir'](*x), memory): same(a, b)
    for t in range(2):
        args = at(3+t),at(t),*past,*memory,x[2]; ref = q.decoder(*args)
        for a,b in zip(parts['model.decoder.mindir'](*args), ref): same(a, b)
        past = ref[1:]

# ---- training

def test_training_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    import train
    from src.tools.misc import read_config
    c = read_config(EXAMPLE/'config'/'ftcap_quant.json'); c['model'].update(SMALL|dict(max_length=20, vocab_size=93))
    with np.load(EXAMPLE/'caption.npz') as z: parts = dict(train=(z['search_items'], z['search_labels']))
    def run(name, steps=2, seed=1):
        (tmp_path/name).mkdir(exist_ok=True)
        return {p.name:p.asnumpy() for p in train.train(c, parts, steps, 4, seed, 1e-2, tmp_path/name, every=1).get_parameters()}
    a,draw = run('a'),train.Batches.__call__
    def broken(self, step):
        if step==1: raise KeyboardInterrupt
        return draw(self, step)
    monkeypatch.setattr(train.Batches, '__call__', broken); first = {}
    for name,seed in (('b',1), ('c',2)): # a step, whose shapes take ten seconds to compile, is enough to see that another seed gives other weights
        with pytest.raises(KeyboardInterrupt): run(name, seed=seed)
        first[name] = {k:p.asnumpy() for k,p in ms.load_checkpoint(str(tmp_path/name/'state.ckpt')).items()}
    assert int(first['b']['done'])==int(first['c']['done'])==1 and not all((first['b'][k]==first['c'][k]).all() for k in a)
    monkeypatch.undo(); b = run('b')
    assert all((a[k]==b[k]).all() for k in a)
    with pytest.raises(SystemExit, match='other settings'): run('b', seed=2)

# ---- the functions of the yml

@pytest.fixture
def opts(tmp_path):
    from src.tools.misc import read_config
    return read_config(EXAMPLE/'config'/'ftcap_quant.json', output_dir=str(tmp_path))

def test_settings_are_read(opts):
    from src.scripts import pretrain_three_caption_endtoend_eval as m
    from src.tools.misc import Options
    assert opts.model.vocab_size==len(m.grammar.VOCABULARY) and opts.model.max_length==m.grammar.MAX_LENGTH
    assert m.build(Options(opts, beam_width=4, language='en')).beam_width==4 and m.build(Options(opts, language='en')).start==m.grammar.ENGLISH
    assert m.build(Options(opts, use_patch=False, img_dim=768)).encoder.uniter.img_embeddings.img_linear.in_channels==768
    assert [x.shape for x in m.get_input_data()]==[(2,17,256),(1,17),(2,17),(2,17)], 'the yml gives it no settings'
    for k in m.ABSENT:
        with pytest.raises(ValueError, match=k): m.build(Options(opts, **{k:True}))
    with pytest.raises(ValueError, match='use_patch'): m.get_input_data(Options(opts, use_patch=False))

def test_settings_that_cannot_be_are_named(opts):
    from src.scripts import pretrain_three_caption_endtoend_eval as m
    from src.tools.misc import Options
    seed = dict(leaves(YAML(typ='safe').load((HERE/'data'/'opt_caption_ms_quant.yml').read_text())))
    m.check(Options(opts, **{k[-1]:v for k,v in seed.items() if k[-3:-1]==('network','config')})) # all that the original gives
    for match,more in {'did you mean beam_width':dict(beam_widht=3), 'beam_width: 0':dict(beam_width=0), "language: 'fr'":dict(language='fr'), "eval_part: 'nope'":dict(eval_part='nope')}.items():
        with pytest.raises(ValueError, match=match): m.build(Options(opts, **more))
    with pytest.raises(FileNotFoundError, match='folder of the example'): m.opt_caption_model_eval(Options(opts, ckpt_file='none.ckpt'))
    with pytest.raises(ValueError, match='rows of img_feat 768 wide'): m.opt_caption_model_eval(Options(opts, use_patch=False))

def test_evaluation_writes_captions_and_compares_them(opts, tmp_path):
    from src.scripts import pretrain_three_caption_endtoend_eval as m
    s = m.scenes.load(str(EXAMPLE/'caption.npz'), 'search')
    def says(which): # a network that knows the answer
        it = iter([which(r) for r in s.references('zh')])
        def net(img_feat, *_):
            res = np.zeros((len(img_feat), 20), np.int32)
            for row in res: o = m.grammar.encode(next(it)); row[:len(o)] = o
            return ms.Tensor(res)
        return net
    right,same = m.eval_func(says(lambda r: r[0]), opts),m.eval_func(says(lambda r: s.references('zh')[0][0]), opts)
    assert set(right)=={'CIDEr','Bleu_1','Bleu_2','Bleu_3','Bleu_4','ROUGE_L'} and right['CIDEr']>3*same['CIDEr'] and right['Bleu_4']>.99
    m.eval_func(says(lambda r: r[0]), opts)
    said = json.loads((tmp_path/'eval'/'opt_end2end_baseline_search_zh.json').read_text())
    assert len(said)==300 and said[0]=={'image_id':'search-0000', 'caption':m.grammar.decode(m.grammar.encode(s.references('zh')[0][0]), 'zh')}

def test_calibration_feeds_a_part(opts):
    from src.scripts import pretrain_three_caption_endtoend_eval as m
    fed = []
    def net(img_feat, *_): fed.append(len(img_feat)); return ms.Tensor(np.zeros((1,1), np.int32))
    m.calib_func(net, opts, .001); assert fed==[100,100]
    m.calib_func(net, opts, 1e-9); assert fed[2:]==[100]

# ---- the three launch lines

YML = str(EXAMPLE/'opt_caption_ms_quant.yml')
LINES = [('run', YML, '-d', 'CPU'), ('vega', YML, '-d', 'CPU'), ('mxOps', 'clibration', '-m', 'taichu', '-c', YML, '-d', 'CPU')]

def test_the_launch_lines_ask_for_the_same(monkeypatch):
    asked = []; monkeypatch.setattr(cli, '_run', lambda *args: asked.append([str(a) for a in args]) or 0)
    for words in LINES: assert main([*words, '--set', 'max_episode=4', '-t', 'a'])==0
    assert len(asked)==3 and asked[0]==asked[1]==asked[2] and asked[0][0]==YML

def test_the_same_seed_gives_the_same_history(tmp_path, monkeypatch, capsys):
    from src.tools.misc import read_config
    monkeypatch.chdir(tmp_path); monkeypatch.setattr(report, 'report', lambda d: None) # the history is what is compared
    ms.save_checkpoint(small(max_length=2), 'small.ckpt'); ours = tmp_path/'small.json'
    ours.write_text(json.dumps({**read_config(EXAMPLE/'config'/'ftcap_quant.json'), 'model':SMALL|dict(max_length=2), 'data_file':str(tmp_path/'few.npz'), 'val_batch_size':20}))
    with np.load(EXAMPLE/'caption.npz') as z: # 20 scenes of each part
        n = {k[:-6]:z[k][:20].sum() for k in z if k.endswith('_cells')}; np.savez('few.npz', **{k:z[k][:20 if k.endswith('_cells') else n[k.split('_')[0]]] for k in z})
    keys = {'nas.model.model_desc.common.network.config.ckpt_file':tmp_path/'small.ckpt', 'policy.max_episode':3, 'policy.num_warmup':2,
        **{f'nas.{k}.file_config':ours for k in ('model.model_desc.common.network','trainer.custom_calib','trainer.custom_eval')}}
    def run(name, words):
        code = main([*words, '-t', name, *(o for k,v in keys.items() for o in ('--set', f'{k}={v}'))])
        out = capsys.readouterr(); assert code in (0,3), out.err
        assert out.err.count('no device: remote_host')==1
        head,*rs = [json.loads(o) for o in (tmp_path/'tasks'/name/'output'/'history.jsonl').read_text().splitlines()]
        return head['float'],[[r[k] for k in ('strategy','metrics','reward','phase')] for r in rs if 'strategy' in r]
    a = run('a', LINES[0])
    assert len(a[1])==3 and set(a[1][0][1])>={'accuracy','CIDEr','compress_ratio','flops'} and {b['w'] for r in a[1] for b in r[0].values()}<={8,32}
    assert any(all(b['w']==8 for b in r[0].values()) for r in a[1][:2]), 'the reward pays for size beyond the threshold, so the smallest is tried early'
    assert a==run('b', LINES[1])
