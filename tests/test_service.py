"The evaluate service as a process of its own, without MindSpore: its clients, what goes wrong on the way, attacks, and many clients at once."
import concurrent.futures, gzip, hashlib, json, os, signal, socket, subprocess, sys, threading, time
from pathlib import Path
import httpx, psutil, pytest
import numpy as np
import mindspore # before onnx
from onnx import TensorProto as TP, helper as oh, numpy_helper as onp
from quantnb.config import DeviceSettings
from quantnb.device.client import Connection, RemoteRunner
from quantnb.device.runner import DeviceEvaluator, QuantCustomEvaluator
from quantnb.types import *

here = Path(__file__).parent
BLOCK = '''
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mindspore','scipy','numba','matplotlib','ipywidgets','nbformat','papermill','tqdm'): raise ModuleNotFoundError(f'{name} is blocked')
sys.meta_path.insert(0, Blocked())
'''

def product(n=64, inputs=1, external=None, rows=1):
    "inputs of [rows,16], added, times a matrix [16,n] of ones, as a serialized model."
    w = onp.from_array(np.ones((16,n), np.float32), 'w')
    if external: w = TP(name='w', data_type=TP.FLOAT, dims=(16,n), data_location=TP.EXTERNAL); w.external_data.add(key='location', value=external)
    names = ['x','mask'][:inputs]; info = lambda k, d: oh.make_tensor_value_info(k, TP.FLOAT, [rows,d])
    nodes = [oh.make_node('Add', names, ['s'])]*(inputs==2)+[oh.make_node('MatMul', ['s' if inputs==2 else 'x','w'], ['y'])]
    return oh.make_model(oh.make_graph(nodes, 'product', [info(k, 16) for k in names], [info('y', n)], [w]), opset_imports=[oh.make_opsetid('', 21)], ir_version=10).SerializeToString()
sha = lambda b: hashlib.sha256(b).hexdigest()
X = np.ones((1,16), np.float32)
FORM = dict(backend='onnx', hardware='CPU', reuse_model='False', job_id='0_1_20260101', repeat_times='5', cal_metric='False', muti_input='False', input_shape='', out_nodes='', precision='FP32', remote_host='http://127.0.0.1')
FILES = dict(model_file=('model.onnx', product()), data_file=('input.bin', X.tobytes()))

class Running:
    "`quantnb serve` in a process that cannot import MindSpore."
    def __init__(self, folder, *words, port=None, before='', path=''):
        self.folder,self.words,self.before,self.path = folder,words,before,path; folder.mkdir(exist_ok=True)
        if port is None:
            with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
        self.port,self.url = port,f'http://127.0.0.1:{port}'; (folder/'sitecustomize.py').write_text(BLOCK+before); self.start()
    def start(self):
        env = dict(os.environ, PYTHONPATH=f'{self.folder}{os.pathsep}{here.parent}', PATH=f'{self.path}{os.pathsep}{os.environ["PATH"]}')
        self.process = subprocess.Popen([sys.executable, '-c', 'import sys; from quantnb.run.cli import main; sys.exit(main())', 'serve', '--port', str(self.port), '--work-dir', str(self.folder/'work'), *self.words],
            env=env, stdout=subprocess.DEVNULL, stderr=open(self.folder/'err', 'a'))
        with self.client() as c:
            for _ in range(600):
                try: return c.get('/v1/health')
                except httpx.TransportError: time.sleep(.05)
        raise RuntimeError((self.folder/'err').read_text())
    def kill(self): self.process.kill(); self.process.wait()
    def stop(self): self.process.terminate(); self.process.wait(20)
    @property
    def memory(self): return psutil.Process(self.process.pid).memory_info().rss/2**20
    def client(self, **kw): return httpx.Client(base_url=self.url, timeout=60, **kw)
    def runner(self, **kw): return RemoteRunner(DeviceSettings(remote_host=self.url, **kw))

@pytest.fixture(scope='module')
def service(tmp_path_factory):
    s = Running(tmp_path_factory.mktemp('service'), '--max-mb', '64', '--rate', '0', path=here/'standins')
    yield s
    s.stop()
@pytest.fixture
def http(service):
    with service.client() as c: yield c

def send(http, *contents):
    for c in contents: assert http.put(f'/v1/files/{sha(c)}', content=c).status_code in (200,201)
def ask(http, content, **kw): return http.post('/v1/evaluate', json=dict(dict(models=dict(model=dict(sha256=sha(content))), repeat=5), **kw))
def alive(http): send(http, product()); return ask(http, product()).json()['results']['model']['n']==5

def test_health(http):
    d = http.get('/v1/health').json(); assert d['service']=='quantnb' and d['hardware']['CPU']['formats']==['onnx'] and d['hardware']['Davinci']['available'] # no MindSpore there
    assert '/v1/evaluate' in http.get('/openapi.json').json()['paths'] and '/v1/evaluate' in http.get('/docs').text
    assert http.get('/nowhere').status_code==404 and http.get('/v1/evaluate').status_code==405

@pytest.mark.parametrize('words', [['--host','0.0.0.0'], ['--tls-cert','cert.pem'], ['--token-file','nowhere']])
def test_refuses_to_start(words, tmp_path, capsys):
    from quantnb.run.cli import main
    assert main(['serve', '--work-dir', str(tmp_path/'w'), *words])==2
    assert 'remedy' in capsys.readouterr().err

# Vega's client, as device_service.md has its wire format

def test_vega_client(http):
    r = http.post('/', data=dict(FORM, cal_metric='True'), files=FILES); d = r.json()
    assert r.status_code==200 and sorted(d)==['error_message','latency','out_data','status','timestamp'] and d['status']=='success' and d['error_message']==''
    assert isinstance(d['latency'], float) and d['latency']>0 and d['out_data']==[16.]*64
    d = http.post('/', data=dict(FORM, reuse_model='True', cal_metric='True')).json(); assert d['status']=='success' and d['out_data']==[16.]*64 # neither model nor data is sent again
    two = dict(model_file=('m.onnx', product(inputs=2)), data_file=('input.bin', X.tobytes()+(2*X).tobytes()))
    d = http.post('/', data=dict(FORM, muti_input='True', cal_metric='True', input_shape='x:1,16;mask:1,16'), files=two).json(); assert d['out_data']==[48.]*64 # both inputs are the real ones

@pytest.mark.parametrize('change,status', [(dict(repeat_times='0'), 'Params error.'), (dict(repeat_times='many'), 'Params error.'), (dict(hardware='Bolt'), 'Params error.'), (dict(reuse_model='perhaps'), 'Params error.'), (dict(job_id='other', reuse_model='True'), 'Params error.')])
def test_vega_mistakes(change, status, http):
    r = http.post('/', data=dict(FORM, **change), files=FILES if change.get('reuse_model')!='True' else None); d = r.json()
    assert r.status_code==400 and d['status']==status and d['latency']=='9999' and d['error_message']

def test_vega_bad_model(http):
    d = http.post('/', data=FORM, files=dict(FILES, model_file=('m.onnx', b'no model'))).json(); assert d['status']=='Inference failed.' and 'ONNX' in d['error_message']
    d = http.post('/', data=dict(FORM, hardware='Davinci'), files=dict(FILES, model_file=('m.onnx', b'bad'))).json(); assert d['latency']=='9999' and d['error_message']
    d = http.post('/', data=FORM, files=dict(FILES, data_file=('input.bin', b'123'))).json(); assert d['status']=='Params error.' and 'has 3 bytes' in d['error_message']

# Davinci, by stand-ins for CANN's programs

def test_davinci(service):
    run = service.runner(hardware='Davinci'); feed = dict(x=X, mask=2*X)
    res = run.measure({'float':product(inputs=2), 'bad':b'bad'}, feed, repeat=10); assert res['bad'] is None and 'bad' in run.failed
    assert res['float'].n==10 and 1<=res['float'].median<1.1 and 'msame' in res['float'].runtime # the runs that warm up do not count
    res = service.runner(hardware='Davinci').measure({'float':product(), 'small':product(32)}, dict(x=X), repeat=10); assert res['small'].n==10

# Our client

def evaluator(**kw):
    class Files(QuantCustomEvaluator):
        def get_data(self): return dict(x=X)
        def export_model(self, model, format='onnx'): return product() if model is None else model
    return DeviceEvaluator(Files(exporter=lambda s: s), DeviceSettings(**kw))

def test_client(service, http):
    d = evaluator(remote_host=service.url, repeat_times=8); r = d({'good':product(32), 'bad':b'nothing'})
    assert (r['float'].n, r['good'].n, r['bad'], list(d.failed))==(8,8,None,['bad']) and r['good'].runtime.startswith('ONNX Runtime')
    assert http.delete(f'/v1/files/{sha(product())}').status_code==204
    assert d({'other':product(16)})['float'].n==8 # what has gone is sent again
    e = evaluator(remote_host=service.url, repeat_times=5, delete_eval_model=True); e({'once':product(17)})
    assert ask(http, product(17)).status_code==409 and ask(http, product()).status_code==200 # the float file stays
    with pytest.raises(InputError, match='cannot measure hardware: Nothing'): evaluator(remote_host=service.url, hardware='Nothing')

def test_reason_and_no_number(service):
    d = evaluator(remote_host=service.url, repeat_times=3); shape = product(rows=7)
    assert d({'shape':shape})['shape'] is None and d.failed['shape'] and '9999' not in d.failed['shape']

class Broken(httpx.HTTPTransport):
    "A network that breaks as it is told to, once each."
    faults = []
    def handle_request(self, request):
        if request.method!='POST' or not self.faults: return super().handle_request(request)
        f = self.faults.pop(0); request.read()
        if f=='no connection': raise httpx.ConnectError('refused')
        if f=='stall': time.sleep(.3); raise httpx.ReadTimeout('no byte for too long')
        if f=='truncated': raise httpx.RemoteProtocolError('peer closed connection without sending complete message body')
        if f=='500': return httpx.Response(500, text='Internal Server Error')
        if f=='no json': return httpx.Response(200, text='<html>')
        if f=='other json': return httpx.Response(200, json=dict(results=3))
        return super().handle_request(request)

@pytest.mark.parametrize('faults,good', [(['no connection'],True), (['truncated','stall'],True), (['500'],False), (['no json'],False), (['other json'],False)])
def test_faults(faults, good, service, monkeypatch):
    monkeypatch.setattr(Connection, 'pause', .05); d = evaluator(remote_host=service.url, repeat_times=4); d({})
    d.runner.net = Connection(service.url, transport=Broken()); monkeypatch.setattr(Broken, 'faults', list(faults))
    r = d({'model':product(24)}); assert bool(r['model'])==good and bool(d.failed.get('model'))!=good
    assert d({'model':product(24)})['model'].n==4 # the next one is measured

def test_truncated_on_the_wire(monkeypatch):
    "An answer that ends in the middle, then a whole one, from a socket."
    monkeypatch.setattr(Connection, 'pause', .05); got = []
    with socket.create_server(('127.0.0.1', 0)) as srv:
        def answer():
            for promised in (100, 14):
                s,_ = srv.accept(); text = b''
                while not text.endswith(b'0\r\n\r\n'): text += s.recv(65536)
                got.append(text); s.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\n\r\n{{"fine": true}}'.encode()); s.close()
        threading.Thread(target=answer, daemon=True).start()
        assert Connection(f'http://127.0.0.1:{srv.getsockname()[1]}').json('POST', '/', lambda: dict(content=iter([b'all of it'])))==dict(fine=True)
    assert len(got)==2 and all(b'all of it' in o for o in got)

def test_search_survives(tmp_path, monkeypatch):
    "A service that is killed and comes back while candidates are tried: no measurement is lost, none is a made-up number."
    from quantnb.run.pipeline import SearchPipeStep
    from quantnb.task import lesson_task
    monkeypatch.setattr(Connection, 'pause', .05); monkeypatch.setattr(Connection, 'tries', 2)
    s = Running(tmp_path/'s', '--rate', '0')
    def task(name, **kw): return lesson_task(n=64, objectives=['accuracy','compress_ratio','latency'], remote_host=s.url, repeat_times=5, max_episode=6, num_warmup=2, targets=Targets(compress_ratio=70), local_base_path=str(tmp_path), task_id=name, **kw)
    class Trouble:
        def after_trial(self, search, r):
            if r.episode==1: s.kill(); threading.Timer(1.5, s.start).start()
            if r.episode==3: Broken.faults += ['500']
    b = SearchPipeStep(task('waits'), callbacks=[Trouble()], progress=False); monkeypatch.setattr(Broken, 'faults', [])
    b.prepare(); b.exporter.device.runner.net = Connection(s.url, transport=Broken()); h = b.run()
    t = [r.metrics['latency'] for r in h if r.status=='ok']; assert len(h)==6 and h.stop_reason=='max_episode'
    bad = [r for r in h if r.status=='ok' and r.metrics['latency'] is None]; assert len(bad)<=1 and all('500' in r.extra['latency_failed'] for r in bad)
    assert all(v is None or 0<v<1000 for v in t) and sum(v is not None for v in t)>=2
    # a device that does not come back: the search stops, goes on where it was, and then does without latency
    class Gone:
        def after_trial(self, search, r):
            if r.episode in (1,4): s.kill()
    h = SearchPipeStep(task('stops', on_device_lost='stop'), callbacks=[Gone()], progress=False).run(); assert h.stop_reason=='interrupted' and 2<=len(h)<6
    s.start(); n = len(h); h = SearchPipeStep(task('stops', on_device_lost='continue'), resume=True, callbacks=[Gone()], progress=False).run()
    assert h.stop_reason=='max_episode' and len(h)==6>n and all(r.metrics['latency'] for r in h[:5]) and (h[5].status=='cached' or h[5].metrics['latency'] is None and 'does not answer' in h[5].extra['latency_failed'])

# The measuring process

def worker_of(service): return next(p for p in psutil.Process(service.process.pid).children() if 'quantnb.device.worker' in p.cmdline())

def test_runtime_crashes(service, http):
    "The measuring process ends as a crash ends it: by a signal. No file is known that crashes this version of the runtime."
    big = product(100000); send(http, big); assert alive(http)
    with concurrent.futures.ThreadPoolExecutor() as ex:
        f = ex.submit(ask, http, big, repeat=10000)
        while not http.get('/v1/health').json()['devices']['cpu']['busy']: time.sleep(.02)
        w = worker_of(service); os.kill(w.pid, signal.SIGSEGV); d = f.result().json()
    assert d['results']=={'model':None} and d['failed']=={'model':'the runtime crashed on it (signal 11)'}
    assert alive(http) and worker_of(service).pid!=w.pid

def test_memory_of_a_model(service, http):
    "A model of a few bytes that asks for 10^15 floats fails, and nothing else does."
    s = onp.from_array(np.array([10**15], np.int64), 's')
    g = oh.make_graph([oh.make_node('ConstantOfShape', ['s'], ['c']), oh.make_node('ReduceSum', ['c'], ['r'], keepdims=0), oh.make_node('Add', ['x','r'], ['y'])], 'huge', [oh.make_tensor_value_info('x', TP.FLOAT, [1,16])], [oh.make_tensor_value_info('y', TP.FLOAT, [1,16])], [s])
    m = oh.make_model(g, opset_imports=[oh.make_opsetid('', 21)], ir_version=10).SerializeToString()
    send(http, m); d = ask(http, m).json(); assert d['results']['model'] is None and d['failed']['model'] and alive(http)

# Attacks

def outside(service): return sorted(str(p.relative_to(service.folder)) for p in service.folder.rglob('*') if service.folder/'work' not in p.parents and '__pycache__' not in str(p))

@pytest.mark.parametrize('job_id', ['../../x', '/tmp/x', '..', '.', 'a/b', 'a\\b', 'a\0b', '$(touch x)', '`touch x`', 'a;touch x', 'x'*1000, '', 'é', '-rf *', "a'b", 'a\nb'])
def test_job_ids(job_id, service, http):
    before = outside(service)
    r = http.post('/', data=dict(FORM, job_id=job_id), files=FILES); assert r.status_code==400 and r.json()['status']=='Params error.'
    assert http.post('/v1/evaluate', json=dict(job_id=job_id, models=dict(m=dict(sha256=sha(product()))))).status_code==422
    assert outside(service)==before and {p.suffix for p in (service.folder/'work'/'jobs').iterdir()}<={'.json'}

@pytest.mark.parametrize('name', ['../../model.onnx', '/etc/passwd.onnx', 'a b.onnx', 'm;id.onnx', '..', 'x.sh', 'model.onnx/../../x'])
def test_file_names(name, service, http):
    before = outside(service); assert http.post('/', data=FORM, files=dict(FILES, model_file=(name, product()))).status_code==400
    assert outside(service)==before

def test_nul_in_a_file_name(service):
    body = b''.join(b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v.encode()) for k,v in FORM.items())
    body += b'--B\r\nContent-Disposition: form-data; name="model_file"; filename="a\x00/../b.onnx"\r\n\r\n'+product()+b'\r\n--B--\r\n'
    with service.client() as c: assert c.post('/', content=body, headers={'Content-Type':'multipart/form-data; boundary=B'}).status_code==400

@pytest.mark.parametrize('field', [k for k in FORM if k!='remote_host'])
def test_shell_metacharacters(field, service, http):
    bad = f'$(touch {service.folder}/owned);`touch {service.folder}/owned`|touch {service.folder}/owned'
    for hardware in ('CPU','Davinci'):
        r = http.post('/', data={**FORM, 'hardware':hardware, field:bad}, files=FILES); assert r.status_code==400 and r.json()['status']=='Params error.'
    assert not (service.folder/'owned').exists()

def test_many_fields(service, http):
    assert http.post('/', data={f'f{i}':'x' for i in range(10000)}, files=FILES).status_code==400
    assert http.post('/', data={f'f{i}':'x' for i in range(10000)}).status_code in (400,413) and alive(http)
    assert http.post('/', data=dict(FORM, out_nodes='x'*200000), files=FILES).status_code==400

def raw(service, head, body=b'', wait=10):
    "What a socket is answered."
    with socket.create_connection(('127.0.0.1', service.port), timeout=wait) as s:
        try: s.sendall(head+body)
        except OSError: pass
        try: return s.recv(65536)
        except OSError: return b''

@pytest.mark.parametrize('path', ['/', '/v1/evaluate', f'/v1/files/{"0"*64}'])
def test_three_gigabytes(path, service, http):
    before = service.memory; verb = 'PUT' if 'files' in path else 'POST'
    a = raw(service, f'{verb} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: {3*2**30}\r\n\r\n'.encode()); assert b' 413 ' in a.split(b'\r\n')[0] # before any of it is read
    sent = [0]
    def counted():
        for _ in range(3000): sent[0] += 2**20; yield b'x'*2**20
    try: assert http.request(verb, path, content=counted(), headers={'Content-Type':'multipart/form-data; boundary=B'}).status_code in (400,413,415)
    except httpx.TransportError: pass # it hangs up while we go on sending
    assert sent[0]<200*2**20 and service.memory-before<60 and alive(http) and not list((service.folder/'work'/'tmp').iterdir())

def test_memory_is_flat(service, http):
    send(http, b'0'*2**20); before = service.memory; big = os.urandom(48*2**20); send(http, big); assert service.memory-before<25
    assert http.delete(f'/v1/files/{sha(big)}').status_code==204

def test_slow_bodies(service, http):
    "Forty bodies that never end; others are served meanwhile."
    ss = []
    for i in range(40):
        s = socket.create_connection(('127.0.0.1', service.port)); s.sendall(f'PUT /v1/files/{i:064x} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx'.encode()); ss.append(s)
    assert alive(http)
    for s in ss: s.close()

def test_external_data(service, http):
    (service.folder/'secret').write_bytes(np.zeros((16,64), np.float32).tobytes())
    for where in ('../../secret', str(service.folder/'secret'), 'secret'):
        m = product(external=where); send(http, m); d = ask(http, m, outputs=True).json(); assert d['results']['model'] is None and 'another file' in d['failed']['model'] and not d['outputs']

def test_wrong_content(http):
    assert http.put(f'/v1/files/{"0"*64}', content=b'something else').status_code==409
    assert http.put('/v1/files/..%2f..%2fx', content=b'x').status_code in (404,422) and http.put('/v1/files/xyz', content=b'x').status_code==422
    assert http.post('/v1/evaluate', content=b'{'*100000, headers={'Content-Type':'application/json'}).status_code==422
    assert http.post('/v1/evaluate', content=json.dumps(dict(models={})).encode(), headers={'Content-Type':'text/plain'}).status_code==415
    assert http.get('/v1/health', headers={'Origin':'http://evil.example'}).status_code==403
    bomb = gzip.compress(b'0'*10**7); r = http.put(f'/v1/files/{sha(bomb)}', content=bomb, headers={'Content-Encoding':'gzip'}); assert r.status_code==201 # kept as it came; nothing is unpacked anywhere

def test_tokens_and_rate(tmp_path, monkeypatch):
    (tmp_path/'token').write_text('a-token-of-the-tests'); (tmp_path/'token').chmod(0o600)
    s = Running(tmp_path/'s', '--token-file', str(tmp_path/'token'), '--rate', '60')
    try:
        c = s.client(); get = lambda **kw: c.get('/v1/health', **kw).status_code
        assert get()==401 and get(headers={'Authorization':'Bearer wrong'})==401 and get(headers={'Authorization':'Bearer a-token-of-the-testsx'})==401
        assert get(headers={'Authorization':'Bearer a-token-of-the-tests'})==200 and get(auth=('vega','a-token-of-the-tests'))==200 and get(auth=('vega','x'))==401
        with pytest.raises(InputError, match='does not accept the token'): RemoteRunner(DeviceSettings(remote_host=s.url)).formats
        assert 'onnx' in RemoteRunner(DeviceSettings(remote_host=s.url, token=f'file:{tmp_path/"token"}')).formats
        with pytest.raises(InputError, match='keeps no token'): RemoteRunner(DeviceSettings(remote_host=s.url, token='***'))
        monkeypatch.setenv('QUANTNB_TOKEN', 'a-token-of-the-tests'); assert 'onnx' in RemoteRunner(DeviceSettings(remote_host=s.url, token='***')).formats # as the effective yml of a task has it
        assert 429 in {get(auth=('vega','a-token-of-the-tests')) for _ in range(70)}
        assert 'a-token' not in (s.folder/'err').read_text()
    finally: s.stop()

def test_full_disk(tmp_path):
    "A limit on the size of files stands in for a full disk: the same calls fail, with another number of error."
    s = Running(tmp_path/'s', '--rate', '0', before='import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))\n')
    try:
        with s.client() as c:
            r = c.put(f'/v1/files/{"0"*64}', content=b'0'*300000); assert r.status_code==507 and 'no space' in r.json()['error'] and alive(c)
            assert c.post('/', data=FORM, files=dict(FILES, data_file=('input.bin', b'0'*2000000))).status_code in (500,507) and alive(c) and not list((s.folder/'work'/'tmp').iterdir())
        d = evaluator(remote_host=s.url, repeat_times=3); r = d({'large':product(4000)}); assert r['large'] is None and '507' in d.failed['large'] and d({'small':product(8)})['small'].n==3
    finally: s.stop()

# Load

def test_load(service, http):
    "50 clients, 500 requests: each is answered, one measurement at a time, in the order of the queue, in flat memory."
    m = [product(8+i) for i in range(5)]; send(http, *m); assert alive(http); before = service.memory
    def client(i):
        with service.client() as c: return [ask(c, m[(i+k)%5], repeat=1, job_id=f'{i}_{k}') for k in range(10)]
    with concurrent.futures.ThreadPoolExecutor(50) as ex: rs = [r for f in [ex.submit(client, i) for i in range(50)] for r in f.result()]
    assert len(rs)==500 and {r.status_code for r in rs}=={200}; ds = sorted((r.json() for r in rs), key=lambda d: d['turn'])
    assert all(d['results']['model']['n']==1 for d in ds)
    for a,b in zip(ds, ds[1:]): assert a['turn']<b['turn'] and a['finished']<=b['started']
    assert service.memory-before<30

# The fastest file

def test_slow_file_is_said(tmp_path):
    "A device on which each integer layer costs a millisecond: the result says that float is faster, and how the file becomes so."
    import onnx
    from quantnb.device.measure import register_runner
    from quantnb.run.pipeline import SearchPipeStep
    from quantnb.run.report import verdict
    from quantnb.task import lesson_task
    @register_runner('SlowIntegers')
    class Slow:
        formats = ('onnx',)
        def __init__(self, settings): pass
        def measure(self, models, feed, repeat): return {k: Latency(1.+sum(n.op_type=='QuantizeLinear' for n in onnx.load_from_string(m).graph.node)) for k,m in models.items()}
    t = lesson_task(n=64, objectives=['accuracy','compress_ratio','latency'], hardware='SlowIntegers', max_episode=3, num_warmup=1, bits=[8], targets=Targets(latency=1., latency_mode='relative'), local_base_path=str(tmp_path), task_id='slow')
    h = SearchPipeStep(t, progress=False).run(); b = h.result; f = b['fastest']
    assert b['missed']['latency']>0 and f['chosen_ratio']>1 and f['ratio']==1 and not f['missed'].get('latency') and f['left'] and (tmp_path/'slow'/'output'/f['path']).stat().st_size>0
    assert 'slower  than float' in verdict(b) and all(r.metrics['latency_ratio']==r.metrics['latency'] for r in h if r.status=='ok')
