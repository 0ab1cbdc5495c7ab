"`quantnb batch` as it is used: wrong ymls run nothing, broken runs are reported and repeated, complete ones are left alone, and no process outlives its run."
import csv, json, shutil, signal, subprocess, sys, time
from pathlib import Path
import nbformat, psutil, pytest
from quantnb.run.cli import main

lesson = Path(__file__).parent/'data'/'lesson.ipynb'

@pytest.fixture
def grid(tmp_path):
    "Writes a yml next to a copy of the lesson."
    shutil.copy(lesson, tmp_path/'lesson.ipynb')
    def write(text, name='grid.yml', head='notebook: lesson.ipynb\noutput: out\nworkers: 2\n'):
        (tmp_path/name).write_text(head+text)
        return tmp_path/name
    return write

def summary(folder): return json.loads((folder/'out'/'summary.json').read_text())
def states(folder): return {r['name']:r['status'] for r in summary(folder)['runs']}
def record(folder, name): return json.loads((folder/'out'/name/'run.json').read_text())
def sleepers(): return [p for p in psutil.process_iter(['cmdline']) if p.info['cmdline']==['sleep','1234']]

BAD = dict(
    unknown_parameter=('grid: {sed: [1, 2]}', ['line 4', 'grid.sed', 'did you mean "seed"']),
    unknown_in_a_run=('runs:\n  - {seed: 1}\n  - {sed: 1}', ['line 6', 'did you mean "seed"']),
    unknown_for_all=('parameters: {biits: 4}\ngrid: {seed: [1]}', ['line 4', 'did you mean "bits"']),
    several=('tiemout: 3\ngrid: {seed: [1, x], bit: [4]}', ['3 problems', 'did you mean "timeout"', 'whole number', 'did you mean "bits"']),
    scalar=('grid: {seed: 3}', ['line 4', 'a list is needed, not 3']),
    wrong_type=("grid: {seed: ['1']}", ['seed:int', '(text)']),
    empty=('grid: {seed: []}', ['at least one value']),
    nothing=('', ['nothing to run']),
    twice=('grid: {seed: [1, 1]}', ['there twice']),
    both=('parameters: {seed: 1}\ngrid: {seed: [1, 2]}', ['is in the grid too']),
    no_yaml=('grid: {seed: [1, 2}', ['no valid YAML', 'line 4']),
    date=('grid: {folder: [2024-01-01]}', ['quotation marks']),
    no_workers=('threads: 0\ngrid: {seed: [1]}', ['threads', 'at least 1']),
)
@pytest.mark.parametrize('name', BAD)
def test_bad_input_runs_nothing(name, grid, tmp_path, capsys):
    text,words = BAD[name]
    code = main(['batch', str(grid(text))]); err = capsys.readouterr().err
    assert code==2, err
    for w in words: assert w in err
    assert not (tmp_path/'out').exists()

NOTEBOOKS = dict(
    missing=('notebook: leson.ipynb\n', 'no file'), misspelt=('notebok: lesson.ipynb\nworkers: 0\n', '2 problems'), none=('', 'notebook: is missing'),
    no_parameters=('notebook: plain.ipynb\n', 'no cell tagged "parameters"'), no_notebook=('notebook: grid.yml\n', 'is no notebook'),
)
@pytest.mark.parametrize('name', NOTEBOOKS)
def test_bad_notebook(name, grid, tmp_path, capsys):
    head,word = NOTEBOOKS[name]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('seed = 1')]), tmp_path/'plain.ipynb')
    assert main(['batch', str(grid('grid: {seed: [1]}\n', head=head))])==2 and word in capsys.readouterr().err

def test_missing_yml_and_foreign_folders(grid, tmp_path, capsys):
    yml = grid('grid: {seed: [1]}')
    assert main(['batch', str(tmp_path/'gird.yml')])==2 and 'did you mean "grid.yml"' in capsys.readouterr().err
    assert main(['batch', str(yml), '--workers', '0'])==2 and 'given on the command line' in capsys.readouterr().err
    (tmp_path/'out'/'seed=1').mkdir(parents=True); (tmp_path/'out'/'seed=1'/'thesis.tex').write_text('years of work')
    assert main(['batch', str(yml)])==2 and 'no batch made it' in capsys.readouterr().err
    assert (tmp_path/'out'/'seed=1'/'thesis.tex').exists()

def test_skip_repeat_and_summary(grid, tmp_path, capsys):
    text = 'parameters: {folder: "{run}"}\ngrid: {bits: [4, 8]}\nruns: [{trouble: raise, bits: 2}]\nthreads: 1\n'
    yml = grid(text)
    assert main(['batch', str(yml), '--list'])==0 and '3 open' in capsys.readouterr().out and not (tmp_path/'out').exists()
    assert main(['batch', str(yml)])==1
    io = capsys.readouterr(); bad = 'trouble=raise_bits=2'
    assert states(tmp_path)=={'bits=4':'complete', 'bits=8':'complete', bad:'failed'}
    assert 'cell [4]: ValueError: no 2 bits today' in io.err and 'repeat the failed' in io.err and '2 complete, 1 failed' in io.out
    assert 'no 2 bits today' in (tmp_path/'out'/bad/'lesson.ipynb').read_text() and 'no 2 bits today' in (tmp_path/'out'/'summary.html').read_text()
    assert (tmp_path/'out'/'bits=4'/'here.txt').read_text()=='1 1', 'the folder is filled in, threads and cores are bounded'
    rows = list(csv.DictReader((tmp_path/'out'/'summary.csv').open()))
    assert [r['status'] for r in rows]==['complete','complete','failed'] and float(rows[0]['accuracy'])==92 and float(rows[1]['compress_ratio'])==75
    page = (tmp_path/'out'/'summary.html').read_text()
    assert 'href="bits=4/lesson.html"' in page and 'lesson' in (tmp_path/'out'/'bits=4'/'lesson.html').read_text() and 'data:image/png' in page and 'http' not in page
    stamps = {k:record(tmp_path, k)['started'] for k in ('bits=4','bits=8',bad)}; (tmp_path/'mended').write_text(''); time.sleep(1)
    assert main(['batch', str(yml)])==0
    new = {k:record(tmp_path, k)['started'] for k in stamps}
    assert new['bits=4']==stamps['bits=4'] and new['bits=8']==stamps['bits=8'] and new[bad]!=stamps[bad]
    assert main(['batch', str(yml)])==0 and {k:record(tmp_path, k)['started'] for k in stamps}==new, 'all complete: nothing runs again'

def test_an_edited_notebook_or_other_parameters_run_again(grid, tmp_path, capsys):
    yml = grid('grid: {bits: [4]}')
    state = lambda: (capsys.readouterr(), main(['batch', str(yml), '--list']), capsys.readouterr().out.split('\n')[0].split(': ')[-1])[-1]
    assert main(['batch', str(yml)])==0 and state()=='1 complete'
    nb = nbformat.read(tmp_path/'lesson.ipynb', 4)
    nb.cells[0].source = 'Other words.'; nb.cells[1].outputs = [nbformat.v4.new_output('stream', text='seen')]; nbformat.write(nb, tmp_path/'lesson.ipynb')
    assert state()=='1 complete', 'text and outputs are no code'
    grid('grid: {bits: [4]}\nparameters: {seed: 1}'); assert state()=='1 open'
    grid('grid: {bits: [4]}\ntimeout: 100'); assert state()=='1 complete'
    nb.cells[-1].source += '\n'+'1'; nbformat.write(nb, tmp_path/'lesson.ipynb'); assert state()=='1 open'
    (tmp_path/'out'/'bits=4'/'run.json').write_text('{"status": "comp'); assert state()=='1 open', 'a torn record'

def test_timeout_dead_kernel_and_killed_process(grid, tmp_path, capsys):
    before = {p.pid for p in sleepers()}
    yml = grid('timeout: 6\ngrid: {trouble: [hang_with_children, die, kill]}\nruns: [{bits: 4}]')
    assert main(['batch', str(yml)])==1
    r = {o['parameters']['trouble']:o for o in summary(tmp_path)['runs']}
    assert [r[k]['status'] for k in ('hang_with_children','die','kill','')]==['failed']*3+['complete']
    assert 'cell [4]' in r['hang_with_children']['error'] and 'took more than 6 s' in r['hang_with_children']['error']
    assert 'cell [4]' in r['die']['error'] and 'the kernel died' in r['die']['error']
    assert 'killed by signal 9' in r['kill']['error']
    assert {p.pid for p in sleepers()}<=before, 'a child of the hanging kernel is still there'
    nb = nbformat.read(tmp_path/'out'/'trouble=hang_with_children'/'lesson.ipynb', 4)
    code = [c for c in nb.cells if c.cell_type=='code']
    assert [c.metadata.papermill.status for c in code]==['completed']*3+['failed']+['pending']*2 and code[3].outputs[0].ename=='CellTimeoutError'

def start(yml): return subprocess.Popen([sys.executable, '-m', 'quantnb.run.cli', 'batch', str(yml)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=yml.parent)

def until(f, seconds=90):
    end = time.time()+seconds
    while time.time()<end:
        try:
            if f(): return
        except OSError: pass
        time.sleep(.1)
    raise AssertionError('it did not come')

def members(tmp_path): return [p for p in psutil.process_iter(['cmdline']) if str(tmp_path/'out') in ' '.join(p.info['cmdline'] or [])]

def test_interrupted_twice_and_resumed(grid, tmp_path):
    yml = grid('runs: [{bits: 4}, {bits: 8, trouble: hang}, {bits: 2}, {bits: 6, trouble: hang_with_children}]'); before = {p.pid for p in sleepers()}; stamps = set()
    for sig in (signal.SIGINT, signal.SIGTERM):
        p = start(yml); until(lambda: sum(s=='complete' for s in states(tmp_path).values())==2 and {o.pid for o in sleepers()}-before)
        p.send_signal(sig); out,_ = p.communicate(timeout=200); stamps.add(record(tmp_path, 'bits=4')['started'])
        assert p.returncode==130 and f'go on with: quantnb batch {yml}' in out, out
        assert sorted(states(tmp_path).values())==['complete','complete','interrupted','interrupted']
        assert not members(tmp_path) and {o.pid for o in sleepers()}<=before
    grid('runs: [{bits: 4}, {bits: 8}, {bits: 2}]')
    assert main(['batch', str(yml)])==0 and stamps=={record(tmp_path, 'bits=4')['started']}

def test_one_batch_at_a_time_and_none_outlives_a_killed_one(grid, tmp_path, capsys):
    yml = grid('grid: {trouble: [hang]}')
    p = start(yml); until(lambda: record(tmp_path, 'trouble=hang')['status']=='running' and members(tmp_path))
    assert main(['batch', str(yml)])==2 and 'in use by another batch' in capsys.readouterr().err
    p.kill(); p.communicate(timeout=30)
    until(lambda: not members(tmp_path), 30)
    assert record(tmp_path, 'trouble=hang')['status']=='running', 'so it is repeated'

def test_metrics_of_a_search_are_found(tmp_path):
    from quantnb.run.batch import read_results
    best = tmp_path/'search'/'output'/'best.json'; best.parent.mkdir(parents=True)
    best.write_text(json.dumps(dict(metrics=dict(accuracy=92., latency=None), float=dict(accuracy=93.), files=dict(onnx=dict(accuracy=91.9)), feasible=True, reward=.1, episodes=3, stop_reason='max_episode')))
    r = read_results(tmp_path, nbformat.v4.new_notebook())
    assert r==dict(accuracy=92., float_accuracy=93., file_accuracy=91.9, reward=.1, feasible=True, episodes=3, stop_reason='max_episode')

def test_the_example_is_right(capsys):
    assert main(['batch', str(Path(__file__).parent.parent/'examples'/'fashion'/'grid.yml'), '--list'])==0 and '6 runs of search.ipynb' in capsys.readouterr().out
