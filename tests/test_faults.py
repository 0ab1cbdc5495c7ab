"What can go wrong around a search: damaged histories, a full disk, kill -9, SIGTERM, two runs on one folder. What was measured stays, and what was lost is said."
import json, logging, os, re, resource, signal, subprocess, sys, time
from pathlib import Path
import pytest
from quantnb.run.cli import main
from quantnb.run.history import TaskDir, progress
from quantnb.types import *
import kills
from test_cli import run

HEAD = dict(float=dict(accuracy=92.), objectives=dict(accuracy='MAX'), targets=Targets(accuracy=91.).to_json(), layers=[])
def episode(i, **kw): return Record(i, Strategy({'fc':(4,8)}), metrics=dict(accuracy=90.+i, compress_ratio=80.), reward=float(i), **kw).to_json()

@pytest.fixture
def task(tmp_path):
    "A task of six episodes that has been closed."
    t = TaskDir(tmp_path, 'demo').open(); t.append(HEAD)
    for i in range(6): t.append(episode(i))
    t.close(); return t

def line(k, new): # what replaces a line (from 0) of the history
    def f(ls): ls[k:k+1] = new(ls[k]) if callable(new) else [new]
    return f
five = json.dumps(episode(5)).encode()
# name: change of the lines, episodes that are kept, words of what is said; None: nothing is, as nothing is lost
DAMAGE = dict(
    torn=(lambda ls: ls.__setitem__(slice(-1, None), [b'{"episode": 6, "stra']), [0,1,2,3,4,5], None),
    empty_line=(line(3, lambda l: [l, b'']), [0,1,2,3,4,5], 'line 5 is empty'), foreign_line=(line(3, lambda l: [l, b'hello']), [0,1,2,3,4,5], 'line 5 is no JSON'), number=(line(3, lambda l: [l, b'5']), [0,1,2,3,4,5], 'line 5 is no record'),
    list_=(line(3, lambda l: [l, b'[1]']), [0,1,2,3,4,5], 'line 5 is no record'), deep=(line(3, lambda l: [l, b'['*100000]), [0,1,2,3,4,5], 'line 5 is no JSON'), no_utf8=(line(3, lambda l: [l, b'\xff\xfe']), [0,1,2,3,4,5], 'line 5 is no JSON'), zeros=(line(3, lambda l: [l, b'\0'*100]), [0,1,2,3,4,5], 'line 5 is empty'),
    doubled=(line(6, lambda l: [l, l]), [0,1,2,3,4,5], 'line 8 repeats line 7'), other_episode=(line(6, lambda l: [l, json.dumps(episode(5, seconds=9.)).encode()]), [0,1,2,3,4,5], 'line 8 has episode 5 again, which line 7 has'),
    lost=(line(3, b'{"episode": 2,'), [0,1,3,4,5], 'episode 2 is missing'), bad_width=(line(3, lambda l: [l.replace(b'"w": 4', b'"w": 99')]), [0,1,3,4,5], 'line 4 is no record of an episode'), bad_metrics=(line(3, lambda l: [l.replace(b'"metrics": {', b'"metrics": [], "other": {')]), [0,1,3,4,5], 'line 4 is no record of an episode'),
    later_field=(line(3, lambda l: [l.replace(b'"episode"', b'"colour": "red", "episode"')]), [0,1,2,3,4,5], None),
)
@pytest.mark.parametrize('name', DAMAGE)
def test_a_damaged_history_keeps_what_is_good_and_says_what_is_not(name, task, caplog):
    change,kept,words = DAMAGE[name]; ls = task.history_file.read_bytes().split(b'\n'); change(ls); raw = b'\n'.join(ls); task.history_file.write_bytes(raw)
    with caplog.at_level(logging.WARNING, 'quantnb'): head,h = task.read(); task.read()
    assert [r.episode for r in h]==kept
    assert caplog.text.count(words)==1 and any(words in o for o in progress(task.root)['damaged']) if words else not caplog.text and 'damaged' not in head
    t = TaskDir.at(task.root).open(resume=True); t.repair(); t.append(episode(len(kept))); t.close() # as a resumed search does
    assert [r.episode for r in t.read()[1]]==list(range(len(kept)+1)) and 'damaged' not in t.read()[0] and [r.metrics['accuracy'] for r in t.read()[1]]==[90.+i for i in kept]+[90.+len(kept)]
    assert [p.read_bytes() for p in t.output.glob('history.damaged-*')]==[raw]*bool(words), 'as it was it is kept'

HEADS = dict(empty=(b'', 'the file is empty'), number=(b'5\n', 'line 1'), foreign=(b'hello\n{}\n', 'line 1'), episode=(five+b'\n', 'line 1'), no_utf8=(b'\xff\n', 'line 1'),
    later=(json.dumps(dict(HEAD, format=2, environment=dict(quantnb='9.9'))).encode()+b'\n', 'use quantnb 9.9'), later_targets=(json.dumps(dict(HEAD, targets=dict(beauty=1))).encode()+b'\n', "no 'beauty'"))
@pytest.mark.parametrize('name', HEADS)
def test_a_history_without_its_first_line_is_refused_in_words(name, task, capsys):
    raw,words = HEADS[name]; task.history_file.write_bytes(raw)
    with pytest.raises(InputError) as e: task.read()
    assert words in str(e.value) and str(task.history_file) in str(e.value) and e.value.remedy and e.value.exit_code==2
    if raw: assert main(['progress', str(task.root)])==2 and words in capsys.readouterr().err

def test_two_runs_on_one_folder_and_who_holds_it(task):
    t = TaskDir.at(task.root).open(resume=True)
    with pytest.raises(InputError, match=f'is being run by process {os.getpid()} on .*, since 20'): TaskDir.at(task.root).open(resume=True)
    t.close(); (t.root/'holder').write_text('5'); TaskDir.at(task.root).open(resume=True).close(); assert not (t.root/'holder').exists()

def test_best_json_describes_the_files_next_to_it_wherever_the_change_is_broken_off(task, monkeypatch):
    def hand_over(t, word): (t.stage()/'model.onnx').write_text(word); t.publish(dict(file=word))
    def state(t): return json.loads(t.best_file.read_text())['file'],(t.best_dir/'model.onnx').read_text()
    hand_over(task, 'a'); assert state(task)==('a','a')
    (task.stage()/'model.onnx').write_text('b'); assert state(TaskDir.at(task.root))==('a','a'), 'the evaluation of a new best is under way'
    class Killed(BaseException): pass
    for module,name in ((os,'replace'), (__import__('shutil'),'rmtree')):
        for at in range(5):
            calls,real = iter(range(99)),getattr(module, name)
            def f(*a, **kw):
                if next(calls)==at: raise Killed
                return real(*a, **kw)
            with monkeypatch.context() as m:
                m.setattr(module, name, f)
                try: hand_over(task, f'{name}{at}')
                except Killed: pass
            assert len(set(state(TaskDir.at(task.root))))==1, (name, at)
    TaskDir.at(task.root).open(resume=True).close(); assert not task.staged.exists()

def left(root): return [str(p) for p in root.rglob('*') if '.tmp' in p.name or p.name=='.best']

def test_a_full_disk_keeps_the_last_good_state(task):
    "RLIMIT_FSIZE: the write that goes beyond it fails in the middle, as on a disk that is full."
    before = task.history_file.read_bytes(); (task.stage()/'model.onnx').write_text('a'); task.publish(dict(file='a')); soft,hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before)+100, hard))
    try:
        with pytest.raises(DiskError, match=r'history.jsonl cannot be written: .*(?s:.)*remedy: make room there.*-r -t demo'): task.append(episode(6, reason='x'*5000))
        (task.stage()/'model.onnx').write_text('b')
        with pytest.raises(DiskError, match='best.json'): task.publish(dict(file='b'*50_000))
        with pytest.raises(DiskError, match='desc_0.json'): task.write_front(History(records=[Record(0, Strategy({f'layer{i}':(4,8) for i in range(3000)}), metrics=dict(accuracy=1.))]))
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert task.history_file.read_bytes()==before and json.loads(task.best_file.read_text())['file']=='a' and (task.best_dir/'model.onnx').read_text()=='a'
    t = TaskDir.at(task.root).open(resume=True); t.append(episode(6)); t.close(); assert len(t.read()[1])==7 and not left(task.root)

def test_a_search_meets_a_full_disk_and_then_sigterm_and_ends_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, caplog):
    yml = kills.project(tmp_path, small=True); monkeypatch.chdir(tmp_path); task = tmp_path/'tasks'/'demo'; script = (tmp_path/'script.py').read_text()
    monkeypatch.setattr('quantnb.run.report.report', lambda root: 'no page') # it would start a kernel
    yml.write_text(yml.read_text().replace('custom_eval: {type: evaluate}', 'custom_eval: {type: evaluate}, custom_confirm: {type: term}').replace('ori_eval_func: evaluate', 'ori_eval_func: evaluate\n      script_confirm_func: term'))
    (tmp_path/'script.py').write_text(script+'def term(net): os.kill(os.getpid(), 15); return evaluate(net)\nimport os\n')
    task.mkdir(parents=True); file = task/'output'/'history.jsonl'; limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    def full(self, d, append=TaskDir.append):
        if d.get('episode')==3: resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size+10, limits[1]))
        append(self, d)
    with monkeypatch.context() as m:
        m.setattr(TaskDir, 'append', full)
        try: code,out,err = run(yml, '-r', capsys=capsys) # a process that was killed before its first line has left an empty folder
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code==1 and 'it starts from the beginning' in caplog.text
    assert 'history.jsonl cannot be written' in err and '-r -t demo' in err and 'Traceback' not in err and len(TaskDir.at(task).read()[1])==3 and not left(task)
    code,out,err = run(yml, '-r', capsys=capsys)
    assert code==130 and "in the phase 'confirmation'; 8 episodes in" in err and 'the best so far is in' in err and '-r -t demo' in err, err
    (tmp_path/'script.py').write_text(script+'term = evaluate\n'); sys.modules.pop('script'); code,out,err = run(yml, '-r', capsys=capsys); best = json.loads((task/'output'/'best.json').read_text())
    assert code==0 and best['episodes']==8 and best['stop_reason']=='max_episode' and sha256(task/'output'/'best'/'model.onnx')==best['files']['onnx']['sha256'] and not left(task), err
    def ended(root): os.kill(os.getpid(), 15); time.sleep(5)
    monkeypatch.setattr('quantnb.run.report.report', ended); sys.modules.pop('script'); code,out,err = run(yml, '-r', capsys=capsys)
    assert code==0 and 'no report: interrupted' in err and f'write it by: quantnb report {task}' in err and json.loads((task/'output'/'best.json').read_text())['files']==best['files'], err
    sys.modules.pop('script')

def test_a_report_meets_a_full_disk(task, monkeypatch, capsys):
    import papermill
    from quantnb.run.report import report
    (task.stage()/'model.onnx').write_text('a'); task.publish(dict(file='a')); page = task.output/'report.html'; page.write_text('the last one'); limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(papermill, 'execute_notebook', lambda *a, **kw: resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1])))
    try: code = main(['report', str(task.root)])
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err; assert code==1 and 'report.ipynb cannot be written' in err and 'make room there' in err and 'Traceback' not in err
    assert page.read_text()=='the last one' and not left(task.root) and task.read()[1]

def test_killed_at_random_moments(tmp_path):
    r = subprocess.run([sys.executable, Path(__file__).parent/'kills.py', '1', '--small', '--seed', '4', '--state', tmp_path/'kills.json'], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert r.returncode==0 and '0 of them not as without' in r.stdout, r.stdout+r.stderr

@pytest.fixture(scope='module')
def misbehaved(tmp_path_factory):
    "A search in one process, whose fourth trial does what no exception ends, as often as it is resumed."
    folder = tmp_path_factory.mktemp('misbehaved')
    r = subprocess.run([sys.executable, Path(__file__).parent/'kills.py', 'misbehave', folder], capture_output=True, text=True, timeout=300, cwd=folder); assert r.returncode==0, r.stderr
    return json.loads(r.stdout)

# what the trial does: exit codes of the run and of those that resume it, what the first one says at its end, reason of the failed episode
ENDS = dict(hang=([1,0], ['took longer than worker.timeout (2 s), and could not be interrupted; this process ends. 3 episodes are in', 'a failed one when the task goes on with: quantnb run', '-r -t hang'], r'worker.timeout \(2 s\), and could not be interrupted'),
    segfault=([-signal.SIGSEGV]*2+[0], [], 'the process ended each time this strategy was tried'),
    leak=([130,0], ['GB, more than the run may use, and has not given it back after a failed trial; the search stops and can be resumed', 'go on with: quantnb run', '-r -t leak'], 'GB, more than the run may use'),
    leak_given_back=([0], [], 'GB, more than the run may use'))
@pytest.mark.parametrize('what', ENDS)
def test_a_trial_that_no_exception_ends(what, misbehaved):
    codes,words,reason = ENDS[what]; d = misbehaved[what]; assert d['codes']==codes, d['said'][-1][-2000:]
    assert all(w in d['said'][0] for w in words), d['said'][0][-2000:]
    rows = [r for r in d['history'] if 'strategy' in r]; well = [r for r in misbehaved['well'] if 'strategy' in r]; bad = [r for r in rows if r['status']=='failed']
    assert len(rows)==len(well)==8 and [r['episode'] for r in bad]==[3] and re.search(reason, bad[0]['reason']), bad
    assert rows[:3]==well[:3] and rows[3]['strategy']==well[3]['strategy'] and not any('Traceback' in s for s in d['said'])
