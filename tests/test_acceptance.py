"A candidate that is clearly behind is dropped before it is evaluated; a floor is kept with confidence or the verdict says that it is not sure; the time box ends a search."
import json, numpy as np, pytest
import mindspore as ms
from quantnb.paired import Drop
from quantnb.task import lesson_task
from quantnb.types import Record, Rival, Strategy, Targets
from quantnb.run.pipeline import SearchPipeStep
from quantnb.run.prepare import Prepared, episode
from quantnb.run.report import baselines_table, target_lines

@pytest.fixture(scope='module')
def search(tmp_path_factory):
    s = SearchPipeStep(lesson_task(targets=Targets(compress_ratio=83, acc_threshold=8, acc_threshold_mode='drop'), bits=[2,4,8], max_episode=10, local_base_path=str(tmp_path_factory.mktemp('acceptance'))), progress=False)
    s.run(); return s

def test_what_is_behind_costs_no_evaluation(search):
    p = search.prepared; ps = [l.path for l in p.graph.quantizable]; good = [Rival(Strategy.uniform(ps, 8, 8))]*3; calls = []
    run = p.task.fns['evaluate']; p.task.fns['evaluate'] = lambda net: calls.append(1) or run(net)
    try: bad,fine,alone = episode(p, Strategy.uniform(ps, 2, 8), good),episode(p, Strategy.uniform(ps, 16, 16), good),episode(p, Strategy.uniform(ps, 2, 8))
    finally: p.task.fns['evaluate'] = run
    assert len(calls)==2 and 'not clearly below' in bad.notes['dropped'] and 'accuracy' not in bad.metrics and not bad.failed
    assert bad.metrics['divergence']==pytest.approx(alone.metrics['divergence'], rel=1e-6) and bad.samples==0<fine.samples and fine.metrics['accuracy']>0

class Batches:
    "An evaluation in 8 batches of 100 samples; `order` of them, and whether it goes on after any error."
    def __init__(self): self.order,self.stubborn,self.ended = range(8),False,0
    def __call__(self, net):
        x = np.random.default_rng(5).normal(size=(8,100,*lesson_task().inputs[0].shape[1:])).astype(np.float32); right = []; self.ended = 0
        for k in self.order:
            try: right.append(net(ms.Tensor(x[k])).asnumpy().argmax(1)==0)
            except BaseException:
                self.ended += 1
                if not self.stubborn: raise
        return 100*float(np.mean(right)) if right else 0.

def test_a_race_goes_on_while_the_function_runs(search, monkeypatch):
    ev = Batches(); p = Prepared(lesson_task(evaluate=ev)).open_network(); p.make_problem(); ps = [l.path for l in p.graph.quantizable]; eight,four = Strategy.uniform(ps, 8, 8),Strategy.uniform(ps, 4, 8)
    monkeypatch.setattr(type(p.trainer), 'behind', lambda *a: '') # as if the remembered samples had not told
    best = episode(p, eight); rival = Rival.from_json(json.loads(json.dumps(Rival(eight, tuple(best.notes['parts'])).to_json()))); assert len(rival.parts)==100 and best.samples>=800
    bad = episode(p, four, [rival]); whole = episode(p, four)
    assert 'samples of the evaluation' in bad.notes['dropped'] and bad.samples<400 and 'accuracy' not in bad.metrics and not bad.failed and bad.metrics['divergence']==pytest.approx(whole.metrics['divergence'], rel=1e-6)
    assert np.mean(whole.notes['parts'])>np.mean(best.notes['parts']) and whole.notes['samples']==800 # the next evaluation is a whole one
    assert episode(p, eight, [Rival(four, tuple(whole.notes['parts']))]).metrics['accuracy']==best.metrics['accuracy']
    ev.stubborn = True; told = episode(p, four, [rival]); assert told.notes['dropped']==bad.notes['dropped'] and ev.ended>=5
    ev.stubborn,ev.order = False,[7,*range(7)]; other = episode(p, four, [rival]); assert other.metrics['accuracy']>=0 and 'parts' not in other.notes and 'dropped' not in other.notes # other samples than the float network was fed

def test_a_function_that_yields_is_raced_between_its_batches(search, monkeypatch):
    given = []
    def grows(net):
        x = np.random.default_rng(5).normal(size=(8,100,*lesson_task().inputs[0].shape[1:])).astype(np.float32); right = []; given.clear()
        for b in x: right.extend(net(ms.Tensor(b)).asnumpy().argmax(1)==0); given.append(100*float(np.mean(right))); yield given[-1]
    p = Prepared(lesson_task(evaluate=grows)).open_network(); p.make_problem(); ps = [l.path for l in p.graph.quantizable]; monkeypatch.setattr(type(p.trainer), 'behind', lambda *a: '')
    best = episode(p, Strategy.uniform(ps, 8, 8)); assert len(given)==8 and best.metrics['accuracy']==given[-1] and best.samples>=800
    bad = episode(p, Strategy.uniform(ps, 4, 8), [Rival(best.strategy, tuple(best.notes['parts']))]); assert 'samples of the evaluation' in bad.notes['dropped'] and len(given)<4 and not bad.failed

def test_a_dropped_record_is_no_candidate_but_is_learned_from(search):
    h = search.history; ps = [l.path for l in search.graph.quantizable]; r = Record(99, Strategy.uniform(ps, 2, 8), metrics=dict(divergence=.5), status='dropped', reason='clearly above')
    assert not r.feasible and Record.from_json(json.loads(json.dumps(r.to_json())))==r
    h.append(r)
    try: assert r not in h.ok and r not in h.ranked() and h.best() is not r
    finally: h.records.pop()
    n = len(search.agent.model); search.agent.learn(r); assert len(search.agent.model)==n+1

def test_the_verdict_says_how_sure_it_is(search):
    a = search.history.result['acceptance']; lines = '\n'.join(target_lines(search.history))
    assert a['upper']>a['drop'] and a['data']=='confirm' and a['assured']==(a['upper']<=a['allowed']+1e-9) and 0<a['samples'] and 0<=a['changed']<=a['samples']
    assert ('sure  ' if a['assured'] else 'unsure') in lines and f"{a['upper']:.4g}" in lines
    rows = search.history.result['confirm']['candidates']; assert all(r['drop_bound'] is not None for r in rows)
    unsure = {**search.history.result, 'acceptance':{**a, 'assured':False, 'needed':12345}}; assert '12,345 samples would show' in '\n'.join(target_lines(unsure))

def test_the_time_box_ends_the_search(tmp_path):
    s = SearchPipeStep(lesson_task(targets=Targets(compress_ratio=83), max_episode=50, max_seconds=1e-3, local_base_path=str(tmp_path)), progress=False); h = s.run()
    assert h.stop_reason=='max_seconds' and len(h)==1 and h.result['episode']==0 and 'max_seconds' in h.ended

def test_the_report_has_what_costs_nothing_beside_the_choice(search):
    rows = {r['name']:r for r in search.history.result['baselines']}; look = search.history.result['outlook']
    assert {'chosen','ILP','greedy'}<=set(rows) and any(k.startswith('random, best of ') for k in rows) and all(r['compress_ratio']>=83-1e-9 and r['accuracy']>0 and r['divergence']>=0 for k,r in rows.items())
    assert 'random, best of' in str(baselines_table(search.history)) and look['gain']>=0 and look['noise']>0 and look['worth']==(look['gain']>look['noise'])

def test_finalists_are_tested_from_the_safest_on(search, monkeypatch):
    "Each with the whole error, and none behind the first that fails, whatever its own bound says."
    p = [l.path for l in search.graph.quantizable]; lost,upper = (.3, .01, .1, .02),(7., 2., 12., 3.)
    pairs = [(r, r) for r in (Record(k, Strategy.uniform(p, 2+k, 8), metrics=dict(divergence=d, accuracy=85.)) for k,d in enumerate(lost))]
    monkeypatch.setattr(search, 'drop', lambda r, role, a0, tested: Drop(1., upper[r.episode]+(tested>1), tested=tested)); divided = [search.drop(r, 'confirm', 90., 4) for r,_ in pairs]
    drops,sure,blocked = search.in_order_of_safety(pairs, divided, 90.); assert search.allowed(90.)==8
    assert sure==[False,True,False,True] and [d.upper for d in drops]==[8., 2., 13., 3.] and [d.sequence for d in drops]==sure and blocked=={id(pairs[0][1]): 'a safer one may drop 12'}

def test_what_is_said_of_a_strategy_that_was_preferred_and_not_delivered(search):
    "No finalist is one thing, a file that could not be evaluated another."
    best = search.history.leader; r = max((o for o in search.history.ok if o.strategy!=best.strategy), key=search.history.preference); low = min(search.history.ok, key=search.history.preference)
    said = lambda finalists: (setattr(search, 'finalists', lambda: finalists), search.standing(r.strategy, low, {})[1], delattr(search, 'finalists'))[1]
    assert said([r])=='finalist, but its file could not be evaluated' and said([best])=='tried, and no finalist: these are spread from the most promising to the safest'
