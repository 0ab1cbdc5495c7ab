"The program and the posterior as properties; every algorithm holds the budget, repeats itself by seed, and goes on after an interruption."
import numpy as np, pytest
from dataclasses import replace
from hypothesis import given, settings, strategies as st
from quantnb.types import Layer, Record, Targets
from quantnb.graph.cost import CostModel
from quantnb.graph.features import features
from quantnb.search.base import Problem, get_algorithm, replay
from quantnb.search.codec import Projection, QuantRLCodec
from quantnb.search.reward import Reward, bonus
from quantnb.search.program import Options, Program, exact, pick
from quantnb.run.prepare import searches
from quantnb.search.msquantrl import LossModel

properties = settings(deadline=None, max_examples=25, derandomize=True, database=None)

def program(seed, L, K):
    rng = np.random.default_rng(seed); n = np.exp(rng.normal(7, 1, L)).round(); w = np.arange(2, 2+K)
    cost = np.ceil(n[:,None]*w/8); loss = np.exp(rng.normal(0, 1.5, L))[:,None]*4.**-w*np.exp(rng.normal(0, .3, (L,K)))
    return loss,cost,float(cost.min(1).sum()+rng.random()*(cost.max(1)-cost.min(1)).sum())

@properties
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(2, 6))
def test_the_fast_program_holds_the_budget_and_is_near_the_exact_one(seed, L, K):
    loss,cost,budget = program(seed, L, K); p = Program(loss, cost, budget); x = p.solve(); y = exact(loss, [cost], [budget])
    assert pick(cost, x).sum()<=budget and (x==p.solve()).all()
    assert p.value(y)<=p.value(x)*(1+1e-6)+1e-12 and p.value(x)<=1.1*p.value(y)+1e-9

@properties
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_the_posterior_comes_nearer_to_additive_losses(seed, L):
    loss,_,_ = program(seed, L, 4); rng = np.random.default_rng(seed); true = loss*np.exp(rng.normal(0, .5, (L,1))); m = LossModel(loss)
    X = rng.integers(0, 4, (12,L)); off = lambda: np.mean([abs(m.predict(x)-pick(true, x).sum()) for x in X]); before = off()
    for x in X: m.add(x, pick(true, x).sum())
    m.fit(); assert off()<=before+1e-9
    draws = [m.sample(np.random.default_rng(1)) for _ in range(2)]; assert all((a==b).all() for a,b in zip(*draws))

ls = [Layer(f'l{i}', 'conv2d', 'Conv2D', f'l{i}', (8+8*(i%3),16,3,3), (1,16,8,8), kernel=(3,3), macs=1) for i in range(7)]
sens = np.exp(np.random.default_rng(0).normal(0, 1.5, 7))
SPACES = dict(weights=([2,3,4,8], [8]), both=([2,4,8], [4,8]), tied=([2,4,8], None))

def problem(space):
    w,a = SPACES[space]; codec,cm = QuantRLCodec(ls, w, a),CostModel(ls); loss = {(l.path,b):s*4.**-b for l,s in zip(ls, sens) for b in w}
    return Problem(codec, cost=cm, project=Projection(codec, cm, 84, loss), sensitivity=loss, features=features(ls), activations=None if a is None else {(l.path,b):s*4.**-b for l,s in zip(ls, sens) for b in a})

def lost(s): e = np.array([np.sqrt(sens[i]*(4.**-b.w+4.**-b.a)) for i,b in enumerate(s.values())]); return float((e**2).sum()+(e[1:]*e[:-1]).sum())

def episodes(name, p, n, old=()):
    alg,res = get_algorithm(name)(p, {}, 3),list(old); replay(alg, old)
    while len(res)<n and not (res and alg.exhausted):
        o = alg.propose(); d = lost(o.strategy); res.append(Record(len(res), o.strategy, metrics=dict(divergence=d), reward=-10*d, phase=o.phase, known=len(res), missed=dict(accuracy=1.) if d>.5 else {})); alg.learn(res[-1])
    return res

@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('name', ['MsQuantRL','SensitivityILP','GreedySensitivity','BinaryRollback','Evolution','RandomSearch','Uniform'])
def test_every_algorithm_holds_the_budget_repeats_itself_and_goes_on(name, space):
    p = problem(space); rs = episodes(name, p, 14); cut = max(1, len(rs)//2)
    assert min(p.cost.ratio(r.strategy) for r in rs)>=84-1e-9
    assert [r.strategy for r in episodes(name, p, 14, rs[:cut])]==[r.strategy for r in rs]==[r.strategy for r in episodes(name, p, 14)]

def test_the_agent_is_at_the_integer_program_at_once_and_above_it_soon():
    p = problem('weights'); o = Options(p); ilp = lost(o.decode(exact(o.loss, [o.bytes], [o.budget]))); vs = [lost(r.strategy) for r in episodes('MsQuantRL', replace(p, starts=()), 30)]
    optimum = min(lost(s) for s in p.space.strategies() if p.cost.ratio(s)>=84)
    assert min(vs[:3])<=ilp*1.05 and min(vs)<=optimum*1.05

def test_what_comes_next_is_the_next_best_of_all():
    "Losses that add up as measured, nothing drawn: of 12,305 strategies the best 24 are proposed in their order, and hardly one is left out of the first 40."
    p = problem('weights'); add = lambda s: float(sum(p.sensitivity[q,b.w] for q,b in s.items())); order = sorted((s for s in p.space.strategies() if p.cost.ratio(s)>=84), key=add); alg = get_algorithm('MsQuantRL')(p, dict(noise_sigma=0, front=0, max_episode=60), 0); seen = []
    for i in range(40): s = alg.propose().strategy; seen.append(order.index(s)); alg.learn(Record(i, s, metrics=dict(divergence=add(s)), reward=-add(s)))
    assert len(order)==12305 and seen[:24]==list(range(24)) and max(seen)<44

@pytest.mark.parametrize('c', LossModel.alikes)
def test_what_a_record_lost_beyond_the_model_speaks_for_its_neighbours(c):
    rng = np.random.default_rng(0); loss = np.exp(rng.normal(0, 1, (6,1)))*4.**-np.arange(2, 6); m = LossModel(loss); X = np.unique(rng.integers(0, 4, (30,6)), axis=0); y = np.array([pick(loss, x).sum() for x in X])*np.exp(rng.normal(0, .5, len(X)))
    for x,v in zip(X, y): m.add(x, v)
    m.theta = (.1,.05,.5,c); m.fits = [(1., m.theta)]; m.scales,m.rhos,m.noises,m.alikes = ((v,) for v in m.theta); m.fit(); t,P,_ = m.sample(np.random.default_rng(0), 0.)
    def plain(x): h = pick(m.g, x); return pick(t, x).sum()+.5*h@P@h # what layers and pairs say
    high = X[np.argmax([v/plain(x) for x,v in zip(X, y)])]; near = next(z for z in (np.where(np.arange(6)==i, (high+1)%4, high) for i in range(6)) if not (X==z).all(1).any())
    assert m.predict(high)>1.2*plain(high) and (m.predict(near)>1.02*plain(near))==(c>0)

def test_a_strategy_that_loses_nothing_is_a_record_like_any_other():
    "All float, for one: its misfit has no size."
    p = problem('weights'); m = LossModel(Options(p).loss)
    for x,y in (((3,)*7, 0.), ((0,)*7, .5), ((1,)*7, .1), ((2,)*7, .04), ((3,)*6+(2,), 1e-7)): m.add(np.array(x), y)
    m.fit(); t,P,alpha = m.sample(np.random.default_rng(0), 1.); assert np.isfinite(t).all() and np.isfinite(P).all() and np.isfinite(alpha).all() and np.isfinite(m.predict(np.array((2,)*7)))

def test_a_dropped_child_is_no_parent():
    p = problem('weights'); alg = get_algorithm('Evolution')(p, dict(children=4), 0)
    for i in range(8):
        s = alg.propose().strategy; bad = i==1; alg.learn(Record(i, s, metrics=dict(divergence=lost(s)), reward=None if bad else -lost(s), status='dropped' if bad else 'ok'))
        if bad: dropped = s
    assert alg.races and alg.best and dropped not in {r.strategy for r in alg.done}

def test_a_latency_that_is_rewarded_is_known_beforehand():
    class Model: # a millisecond for each layer that is not at 2 bits
        def predict(self, s): return float(sum(b.w>2 for b in s.values()))
    p = problem('weights'); reward = Reward(custom_reward=True, metric_to_reward='latency', metric_ratio=1., float_metrics=dict(accuracy=90., latency=7.)); few = next(s for s in p.space.strategies() if sum(b.w>2 for b in s.values())==1)
    assert bonus(reward, p.cost) is None and bonus(reward, p.cost, Model())(few)==pytest.approx(.1*100*6/7) and reward(dict(accuracy=90., latency=3.5, latency_ratio=.25))==pytest.approx(7.5)
    asks = replace(p, project=None, targets=Targets(acc_threshold=1, acc_threshold_mode='drop'), bonus=bonus(reward, p.cost, Model()), starts=()); alg = get_algorithm('MsQuantRL')(asks, {}, 0); assert not alg.floored
    for i in range(20): s = alg.propose().strategy; alg.learn(Record(i, s, metrics=dict(divergence=1e-6*lost(s)), reward=asks.bonus(s)-1e-5*lost(s)))
    assert max(asks.bonus(r) for r in alg.records)==asks.bonus(p.space.decode([0.]*7)) # two bits everywhere, as nothing is lost

def test_names_in_the_yml():
    assert {'MsQuantRL','HAQ','ddpg','SensitivityILP','GreedySensitivity','BinaryRollback','Evolution','RandomSearch','Uniform'}<=set(searches)

def test_another_algorithm_has_its_own_settings():
    "HAQ under `agent` explores as HAQ does, also after the configuration was written out; and another type in a notebook keeps what all algorithms have."
    from quantnb.search.base import get_algorithm
    from quantnb.task import lesson_task
    noise = lambda t, name: get_algorithm(name).Settings.model_validate({k: getattr(t.config.policy, k) for k in get_algorithm(name).Settings.model_fields}).noise_sigma
    t = lesson_task(max_episode=9); assert t.config.policy.noise_sigma==.25 and noise(t.replace(agent='ddpg'), 'HAQ')==.5
    assert t.replace(agent='ddpg').replace(seed=3).config.policy.noise_sigma==.5 and t.replace(agent='ddpg', noise_sigma=.25).config.policy.noise_sigma==.25
    e = t.replace(**{'search_algorithm.type':'Evolution'}); assert (e.config.search.type, e.config.policy.max_episode)==('Evolution', 9) and isinstance(e.config.policy, get_algorithm('Evolution').Settings)
    assert e.replace(**{'search_algorithm.type':'MsQuantRL'}).config.policy==t.config.policy
