"Episodes in sequence: the search sees what it delivers, in this process, in a worker, and after it was interrupted."
import json, pickle, pytest
from quantnb.run.executor import calibrated, reopened
from quantnb.run.pipeline import SearchPipeStep
from quantnb.run.prepare import episode, prepare
from quantnb.task import lesson_task
from quantnb.types import Targets

def task(folder, **kw): return lesson_task(**{**dict(targets=Targets(compress_ratio=89), bits=[2,3,4,8], max_episode=5, num_warmup=2, quant=dict(episodes='in sequence'), local_base_path=str(folder)), **kw})

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    s = SearchPipeStep(task(tmp_path_factory.mktemp('whole')), task_id='t', progress=False); s.run(); return s

def test_the_file_of_the_best_so_far_is_what_was_evaluated(tmp_path):
    s = SearchPipeStep(task(tmp_path), progress=False).prepare(); r = s.step(); s.keep_best(); best = json.loads(s.dir.best_file.read_text())
    assert s.prepared.sequence.damping in (.01,.3) and best['files']['onnx']['accuracy']==r.metrics['accuracy'] and best['files']['onnx']['parity']['agreement']==1
    assert s.file_metrics(r.strategy, folder=s.dir.output/'best')['accuracy']==r.metrics['accuracy'] and not s.engine.quantizer._own
    shared = s.engine.divergence_of(r.strategy); assert r.metrics['divergence']<.8*shared
    s.history.stop_reason = 'interrupted'; s.finish(); assert json.loads(s.dir.best_file.read_text())['files']['onnx']['accuracy']==r.metrics['accuracy'] and s.delivered.own and s.dir.views(s.delivered.to_json())
    s.dir.close()

def test_a_worker_gives_the_same_weights(whole):
    p = reopened(pickle.loads(pickle.dumps(calibrated(whole.prepared)))); r = whole.history[1]; o = episode(p, r.strategy)
    assert not o.failed and o.metrics['accuracy']==r.metrics['accuracy'] and o.metrics['divergence']==pytest.approx(r.metrics['divergence'], rel=1e-5)

def test_a_resumed_search_goes_on_as_it_was(whole, tmp_path):
    s = SearchPipeStep(task(tmp_path), task_id='t', progress=False).prepare()
    for _ in range(2): s.step()
    s.close_executor(); s.dir.abandon()
    again = SearchPipeStep(task(tmp_path), task_id='t', resume=True, progress=False); again.run()
    assert again.prepared.sequence.damping==whole.prepared.sequence.damping and [r.strategy for r in again.history]==[r.strategy for r in whole.history]
    assert [r.metrics['divergence'] for r in again.history]==pytest.approx([r.metrics['divergence'] for r in whole.history], rel=1e-6)

def test_the_default_has_them_where_they_pay(tmp_path, caplog):
    low = dict(targets=Targets(compress_ratio=89), bits=[2,3,4,8])
    def sequence(**kw): return prepare(task(tmp_path, **kw)).sequence
    assert sequence(quant={}, **low).damping in (.01,.3) and sequence(quant={}, targets=Targets(compress_ratio=70), bits=[6,8]) is None
    with caplog.at_level('WARNING', 'quantnb'): assert sequence(quant={}, engine='mindspore', **low) is None
    assert 'trainer.quant.episodes' not in caplog.text # nobody asked for them

def test_shared_weights_stay_where_they_are_asked_for_or_cannot_be_left(tmp_path, caplog):
    assert prepare(task(tmp_path, quant=dict(episodes='as searched'))).sequence is None and prepare(task(tmp_path, quant=dict(preset='fast'))).sequence is None and prepare(task(tmp_path, quant=dict(preset='best'))).sequence is not None
    with caplog.at_level('WARNING', 'quantnb'): assert prepare(task(tmp_path, engine='mindspore')).sequence is None
    assert 'weights stay as they are shared' in caplog.text
