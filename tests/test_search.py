"The budget projection, strategies and actions, and the front, as properties of random networks; the one order of preference; then whole searches: a latency target, a confirmation that decides otherwise, callbacks and rewards that raise."
import json
import mindspore as ms # before onnx
import numpy as np, onnx, pytest
from hypothesis import given, settings, strategies as st
from quantnb.types import Bits, History, InputError, Latency, Layer, Record, Strategy, Targets
from quantnb.graph.cost import CostModel
from quantnb.device.measure import register_runner
from quantnb.panels.front import FrontPlot
from quantnb.run.history import TaskDir, progress
from quantnb.run.pipeline import SearchPipeStep
from quantnb.run.prepare import uniforms
from quantnb.run.report import final_table, finalists_table, verdict
from quantnb.search.codec import QuantRLCodec, project as onto_budget
from quantnb.task import lesson_task

properties = settings(deadline=None, max_examples=100, derandomize=True, database=None) # the same examples in every run

# ---- the interface of `search/` that these tests use

def make_space(layers, w_bits, a_bits=None, pin=None): return QuantRLCodec(layers, w_bits, a_bits, pin)
def project(strategy, space, cost, ratio, mode='spend'): return onto_budget(strategy, space, cost, ratio, mode=mode)
def weight_steps(space):
    "Layer path to the candidates of its weights and whether the activation moves with them; pinned layers are left out."
    return {s.path: (s.bits, s.what=='wa') for s in space.steps if 'w' in s.what}

# ---- random networks and strategies

def dense(path, o, i): return Layer(path, 'dense', 'MatMul', f'{path}.weight', (o,i), macs=o*i, bias=o)
def conv(path, o, i, k, groups): return Layer(path, 'conv2d', 'Conv2D', f'{path}.weight', (o*groups,i,k,k), macs=o*groups*i*k*k*49, kernel=(k,k), groups=groups)

size = st.integers(1, 40)
layer = st.one_of(st.tuples(st.just(dense), size, size), st.tuples(st.just(conv), size, st.integers(1, 12), st.sampled_from([1,3]), st.integers(1, 4)))
def candidates(widths): return st.lists(st.sampled_from(widths), min_size=1, max_size=4, unique=True).map(sorted)

@st.composite
def networks(draw, widths=(2,3,4,5,6,7,8,16,32)):
    "A space of strategies and the cost model of the same layers."
    layers = [f(f'l{i}', *args) for i,(f,*args) in enumerate(draw(st.lists(layer, min_size=1, max_size=6)))]
    w_bits,a_bits = draw(candidates(widths)),draw(st.none() | candidates([4,6,8]))
    pin = draw(st.dictionaries(st.sampled_from([l.path for l in layers]), st.sampled_from([8,32]), max_size=2))
    return make_space(layers, w_bits, a_bits, pin),CostModel(layers)

def proposals(draw, space): return space.decode(draw(st.lists(st.floats(0, 1), min_size=len(space), max_size=len(space))))
def top_of(space, cost): return cost.max_ratio(space.w_bits, space.a_bits, space.pin)

# ---- projection onto the budget

def held(cost, ratio): return int(cost.s0*(1-ratio/100)+1e-6) # bytes

@properties
@given(st.data(), networks(), st.floats(.01, 1), st.sampled_from(['spend','haq']))
def test_projection_holds_the_budget_and_repeats_itself(data, network, share, mode):
    space,cost = network; s = proposals(data.draw, space); ratio = share*top_of(space, cost)
    if ratio<=0: return # every candidate is larger than float
    p = project(s, space, cost, ratio, mode)
    assert cost.size(p)<=held(cost, ratio), (cost.size(p), held(cost, ratio))
    assert project(p, space, cost, ratio, mode)==p
    assert list(p)==list(s) and all(p[k]==s[k] for k in space.pin)
    for path,(bits,tied) in weight_steps(space).items():
        assert p[path].w in bits
        assert p[path].a==(p[path].w if tied else s[path].a), 'an activation of its own is not the projection\'s business'

@properties
@given(st.data(), networks(widths=(2,3,4,5,6,7,8)), st.floats(.01, 1))
def test_projection_leaves_nothing_unspent(data, network, share):
    "No layer's weights can be wider within the budget. (Up to 8 bits a wider weight is a larger one.)"
    space,cost = network; ratio = share*top_of(space, cost)
    if ratio<=0: return
    p = project(proposals(data.draw, space), space, cost, ratio)
    for path,(bits,tied) in weight_steps(space).items():
        for w in bits[bits.index(p[path].w)+1:]:
            wider = Strategy({**p, path: Bits(w, w if tied else p[path].a)})
            assert cost.size(wider)>held(cost, ratio), (path, p[path], w)

@properties
@given(st.data(), networks(), st.sampled_from(['spend','haq']))
def test_a_budget_below_the_smallest_strategy_is_refused(data, network, mode):
    space,cost = network; s = proposals(data.draw, space); top = top_of(space, cost)
    if not 0<top<99: return
    with pytest.raises(InputError, match='out of reach: at most'): project(s, space, cost, top+.5+100/cost.s0, mode)

@properties
@given(st.data(), networks(), st.sampled_from([0, None]))
def test_without_a_budget_a_strategy_stays(data, network, ratio):
    space,cost = network; s = proposals(data.draw, space)
    assert project(s, space, cost, ratio)==s

# ---- actions and strategies

@properties
@given(st.data(), networks())
def test_actions_and_strategies_are_the_same_thing(data, network):
    space,_ = network; s = proposals(data.draw, space); actions = space.encode(s)
    assert len(actions)==len(space) and all(0<a<1 for a in actions)
    assert space.decode(actions)==s and space.encode(space.decode(actions))==actions
    assert all(s[k].w==b.w for k,b in space.pin.items()) and set(s)=={l.path for l in space.layers}

@properties
@given(networks(), st.lists(st.floats(0, 1), min_size=12, max_size=12), st.integers(0, 11), st.floats(0, 1))
def test_a_larger_action_is_never_a_narrower_width(network, actions, k, more):
    space,_ = network; n = len(space); k %= max(1, n); actions = actions[:n]
    if not n: return
    a,b = space.decode(actions),space.decode([max(x, more) if i==k else x for i,x in enumerate(actions)])
    assert all(a[p].w<=b[p].w and a[p].a<=b[p].a for p in a)

@properties
@given(networks())
def test_every_strategy_is_listed_once(network):
    space,_ = network
    if space.space>300: return
    al = list(space.strategies())
    assert len(al)==len(set(al))==space.space

# ---- the front

METRICS = dict(accuracy='MAX', compress_ratio='MAX', latency='MIN')

@st.composite
def histories(draw):
    "Records whose metrics, few and coarse so that ties are common, depend on the strategy; some failed, some lack a metric."
    metric = st.fixed_dictionaries({k: st.sampled_from([None,1.,2.,2.,3.]) for k in METRICS})
    known = draw(st.lists(st.tuples(metric, st.sampled_from(['ok','ok','ok','failed'])), min_size=1, max_size=6))
    order = draw(st.lists(st.integers(0, len(known)-1), max_size=14))
    rs = [Record(i, Strategy({f's{k}': (8,8)}), metrics=known[k][0], status=known[k][1] if known[k][1]=='failed' or order.index(k)==i else 'cached') for i,k in enumerate(order)]
    names = draw(st.lists(st.sampled_from(list(METRICS)), min_size=1, unique=True))
    return History(objectives={k: METRICS[k] for k in names}, records=rs),names

def beats(a, b, names):
    "At least as good in all metrics and better in one."
    gain = [(a.metrics[k]-b.metrics[k])*(1 if METRICS[k]=='MAX' else -1) for k in names]
    return min(gain)>=0 and max(gain)>0

@properties
@given(histories())
def test_the_front_holds_no_dominated_record_and_no_double_and_all_the_others(case):
    h,names = case; front = h.front()
    usable = [r for r in h if r.status!='failed' and all(r.metrics[k] is not None for k in names)]
    assert len({r.strategy for r in front})==len(front)
    assert [r.episode for r in front]==sorted(r.episode for r in front)
    for r in front: assert r in usable and not [o for o in usable if beats(o, r, names)]
    for r in usable: assert r.strategy in {o.strategy for o in front} or [o for o in front if beats(o, r, names)]

@st.composite
def searches_with_ties(draw):
    "Records whose rewards and accuracies are often equal, with and without targets that are missed."
    rs,n = [],draw(st.integers(1, 10))
    for i in range(n):
        m = dict(accuracy=draw(st.sampled_from([90., 91.])), compress_ratio=draw(st.sampled_from([80., 84., 88.])), latency=draw(st.sampled_from([1., 2., None])))
        rs.append(Record(i, Strategy({f's{draw(st.integers(0, 5))}':(4,8)}), metrics=m, reward=draw(st.sampled_from([0., .1, None])), missed=draw(st.sampled_from([{}, {}, dict(accuracy=.1), dict(latency=.2)])), status=draw(st.sampled_from(['ok','ok','failed']))))
    return History(objectives={'accuracy':draw(st.sampled_from(['MAX','MIN'])), 'compress_ratio':'MAX'}, records=rs)

@properties
@given(searches_with_ties())
def test_one_order_of_preference(h):
    """Who is best, written down a second time: nothing feasible is left behind for something that is not; then reward, accuracy, size; and every place that marks an episode marks this one."""
    ok = [r for r in h if r.status!='failed']; b = h.best()
    assert (b is None)==(not ok)
    if b is None: return
    sign = -1 if h.objectives['accuracy']=='MIN' else 1; reward = lambda r: -np.inf if r.reward is None else r.reward
    for o in ok:
        if o.missed: assert not b.missed or sum(b.missed.values())<=sum(o.missed.values()); continue
        assert not b.missed and reward(b)>=reward(o)
        if reward(b)>reward(o): continue
        assert sign*b.metrics['accuracy']>=sign*o.metrics['accuracy']
        if b.metrics['accuracy']==o.metrics['accuracy']: assert b.metrics['compress_ratio']>=o.metrics['compress_ratio'], 'of two that are as accurate the smaller one wins'
    ranked = h.ranked(); assert ranked[0] is b and len({r.strategy for r in ranked})==len(ranked)==len({r.strategy for r in ok})
    assert [h.preference(r) for r in ranked]==sorted(map(h.preference, ranked), reverse=True)
    plot = FrontPlot(h); assert plot.best==b.episode and plot.mark=='best so far'
    grown = FrontPlot(History(h.float, h.objectives, h.targets))
    for r in h: grown.append(r)
    assert grown.best==b.episode
    search = SearchPipeStep.__new__(SearchPipeStep); search.history = h
    finalists,good = search.finalists(),[r for r in ranked if not r.missed] or ranked[:1]; assert finalists[0] is b
    lost = lambda r: r.metrics.get('divergence', np.inf); assert len(finalists)==min(5, len(good)) and [h.preference(r) for r in finalists]==sorted(map(h.preference, finalists), reverse=True)
    if h.targets.accuracy is None or len(good)<=5: assert finalists==good[:5]
    else: # where a floor is asked for: those that nothing preferred to them is as safe as, from the best to the safest; all of them, or spread over them
        front = [r for k,r in enumerate(good) if all(lost(o)>lost(r) for o in good[:k])]; there = [r for r in finalists if any(r is o for o in front)]
        assert min(map(lost, finalists))==min(map(lost, good)) and (len(there)==len(front) if len(front)<=5 else len(there)>=2)
    h.chosen = ranked[-1]; assert h.leader is ranked[-1] and (FrontPlot(h).best, FrontPlot(h).mark)==(ranked[-1].episode, 'delivered')

# ---- whole searches

def test_what_is_in_the_table_takes_part_in_the_choice(tmp_path):
    "Every strategy has the same accuracy: the smallest one that was tried is delivered, by bar, star, progress, files and report alike."
    search,h,best = run(tmp_path, evaluate=lambda net: 90., confirm=lambda net: 90., targets=Targets(compress_ratio=70), max_episode=6, num_warmup=6)
    sizes = {r.episode:r.metrics['compress_ratio'] for r in h}; assert len(set(sizes.values()))>1
    assert best['metrics']['compress_ratio']==max(sizes.values()) and best['episode']==h.best().episode==h.chosen.episode==h.leader.episode
    rows = {r['name']:r for r in best['table']}; four = rows['uniform 4']
    assert four['episode'] is not None and h[four['episode']].strategy==uniforms(search.config, search.graph)['uniform 4'], 'it was tried'
    assert rows['uniform 8']['choice'].startswith('tried') or 'removes' in rows['uniform 8']['choice'] or 'finalist' in rows['uniform 8']['choice']
    assert four['choice']=='delivered' if four['compress_ratio']==max(sizes.values()) else 'larger' in four['choice'], four
    assert [c['why'] for c in best['confirm']['candidates']].count('delivered')==1 and all(c['why'] for c in best['confirm']['candidates'])
    p = progress(tmp_path/'t')['best']; assert (p['episode'], p['mark'])==(best['episode'], 'delivered')
    assert FrontPlot(TaskDir.at(tmp_path/'t').read()[1]).best==best['episode']

def test_every_accuracy_names_its_data(tmp_path):
    "Search, confirmation and test data of different sizes: each figure is shown with its own."
    x = np.random.default_rng(0).normal(size=(48,1,10,10)).astype(np.float32)
    def on(n): return lambda net: float(net(ms.Tensor(x[:n])).asnumpy().mean())
    search,h,best = run(tmp_path, evaluate=on(48), confirm=on(32), test=on(16), max_episode=3, num_warmup=2)
    assert best['samples']==dict(evaluate=48, confirm=32, test=16)
    assert 'accuracy (test, 16)' in str(final_table(best)) and FrontPlot(h).labels['accuracy']=='accuracy (search data, 48 samples)'
    heads = list(finalists_table(best).columns.values()); assert 'accuracy (search data, 48 samples)' in heads and 'accuracy (confirmation data, 32 samples)' in heads
    assert progress(tmp_path/'t')['best']['accuracy_on']=='search data, 48 samples'
    low = {**best, 'targets':Targets(accuracy=0., mode='drop').to_json()}; assert 'on the confirmation data, 32 samples' in verdict(low)

class Flat:
    "A runner without a clock: 2 ms for float, less for each QuantizeLinear, so that the same file always has the same latency."
    formats = ('onnx',)
    def __init__(self, settings): pass
    def measure(self, candidates, feed, repeat=50):
        def ms(data):
            ops = [n.op_type for n in onnx.load_from_string(data).graph.node]; t = 2*.95**ops.count('QuantizeLinear')
            return Latency(t, t, t, 0., repeat)
        return {k: ms(v) for k,v in candidates.items()}
register_runner('Flat')(Flat)

def run(tmp_path, callbacks=(), **kw):
    "A search on the network of the lessons: the search object, its history, the content of best.json."
    task = lesson_task(**{**dict(n=64, local_base_path=str(tmp_path), task_id='t', hardware='Flat', agent='random', max_episode=5, num_warmup=3), **kw})
    search = SearchPipeStep(task, progress=False, callbacks=callbacks); history = search.run()
    best = tmp_path/'t'/'output'/'best.json'
    return search,history,json.loads(best.read_text()) if best.exists() else None

def lines(tmp_path): return [json.loads(l) for l in (tmp_path/'t'/'output'/'history.jsonl').read_text().splitlines()]

def test_a_search_for_a_latency_proposes_what_is_predicted_to_meet_it(tmp_path):
    limit = 1.3
    search,h,best = run(tmp_path, bits=[4,8,16], objectives=('accuracy','compress_ratio','latency'), agent='ddpg', max_episode=10, num_warmup=4,
                        targets=Targets(latency=limit, accuracy=20, mode='drop', compress_ratio=40))
    assert h.float['latency']==2 and {r.status for r in h}<={'ok','cached'}
    for r in h: # a miss is the relative distance to the limit, and nothing is chosen that misses
        assert r.missed.get('latency', 0.)==pytest.approx(max(0, r.metrics['latency']/limit-1), abs=1e-9)
    assert best['feasible'] and best['metrics']['latency']<=limit and not h.best().missed
    head,*records = lines(tmp_path); known = {Strategy.from_json(d['strategy']): d['ms'] for d in head['latency_model']['data']}
    assert head['latency_model']['error']<.05 and len(set(known.values()))>1, 'the graphs that were measured differ'
    for r in h: assert r.extra['latency_predicted']==pytest.approx(r.metrics['latency'], rel=.1)
    drawn = [r for r in h if r.extra['source']!='structured']; assert drawn
    slow = [r for r in drawn if r.metrics['latency']>limit*(1+head['latency_model']['error'])]
    problem,rng = search.prepared.problem,np.random.default_rng(0); free = [problem.excess(problem.executed(problem.space.decode(rng.random(len(problem.space))))) for _ in range(300)]
    assert len(slow)/len(drawn)<np.mean(np.array(free)>0), (len(slow), len(drawn), np.mean(np.array(free)>0)) # than without looking

def test_a_latency_that_nothing_meets(tmp_path):
    search,h,best = run(tmp_path, objectives=('accuracy','compress_ratio','latency'), max_episode=3, num_warmup=2, targets=Targets(latency=.01))
    assert not best['feasible'] and best['missed']['latency']>1 and all('latency' in r.missed for r in h)

def test_a_confirmation_overrules_the_best_of_the_search(tmp_path):
    answers = iter([96., 50.]) # of float, and of the first finalist, the search's best; the others have 95
    def confirm(net): return next(answers, 95.)
    search,h,best = run(tmp_path, confirm=confirm, targets=Targets(accuracy=15, mode='drop', compress_ratio=70))
    cands = best['confirm']['candidates']; first = h[cands[0]['episode']]
    assert len(cands)>1 and first.reward==h.best().reward and not first.missed, 'the search would have chosen it'
    assert cands[0]['accuracy']==50 and cands[0]['missed']['accuracy']>0
    assert best['episode']!=first.episode and best['feasible'] and best['confirm']['accuracy']==95
    assert h[best['episode']].strategy==Strategy.from_json(best['strategy'])!=first.strategy
    assert lines(tmp_path)[-1]['chosen']==best['episode']
    shipped = tmp_path/'t'/'output'/best['files']['onnx']['path'] # the files are those of the choice
    assert search.delivered.plain==h[best['episode']].strategy and shipped.read_bytes()==search.exporter.onnx(search.delivered)!=search.exporter.onnx(first.strategy)

class Bad:
    "Fails at every turn."
    def before_search(self, search): raise RuntimeError('before')
    def after_trial(self, search, record): raise ValueError(f'after {record.episode}')
    def after_search(self, search): raise KeyError('at the end')

class Counts:
    def __init__(self): self.seen = []
    def after_trial(self, search, record): self.seen.append(record.episode)

def test_callbacks_that_raise_are_reported_and_the_search_goes_on(tmp_path, caplog):
    good = Counts(); search,h,best = run(tmp_path, callbacks=[Bad(), good], max_episode=3, num_warmup=2)
    assert [r.status for r in h]==['ok']*3 and good.seen==[0,1,2], 'the callback after the one that fails is called'
    for text in ('Bad.before_search fails: RuntimeError: before', 'Bad.after_trial fails: ValueError: after 2', 'Bad.after_search fails: KeyError'): assert text in caplog.text
    assert best['episodes']==3

def test_a_reward_function_that_raises_fails_its_episode_only(tmp_path):
    asked = []
    def reward(record, float_record):
        asked.append(record.episode)
        if record.episode==1: raise ZeroDivisionError('no reward for this')
        if record.episode==2: return float('nan')
        return record.metrics['compress_ratio']
    search,h,best = run(tmp_path, custom_reward=reward)
    assert [r.status for r in h]==['ok','failed','failed','ok','ok']
    assert h[1].reason=='ZeroDivisionError: no reward for this' and h[2].reason=='the reward is nan'
    rewards = [r.reward for r in h]; assert all(np.isfinite(rewards)) and max(rewards[1:3])<min(rewards[:1]+rewards[3:]), rewards
    assert best['episode'] in (0,3,4) and [d.get('status') for d in lines(tmp_path)[1:6]]==[r.status for r in h]

def test_a_reward_function_that_always_raises(tmp_path):
    def reward(record, float_record): raise RuntimeError('never')
    search,h,best = run(tmp_path, custom_reward=reward, max_episode=3, num_warmup=2)
    assert [r.status for r in h]==['failed']*3 and {r.reason for r in h}=={'RuntimeError: never'}
    assert h.best() is None and best is None, 'nothing is handed over'
