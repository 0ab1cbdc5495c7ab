"""Many architectures through quantnb, each in a process of its own with a limit of time and of memory.

    python benchmarks/zoo.py [--only REGEX] [--again] [--stage1] [--time 300] [--memory 8] [--rows 64] [--out benchmarks/zoo.jsonl]
    python benchmarks/zoo.py --list
    python benchmarks/zoo.py --page [FILE]
    python benchmarks/zoo.py --survey

The networks are the smallest member of every model family of mindcv (`pip install mindcv`: nothing else here needs it) at the smallest
image it takes, and those of zoo_nets.py. All have random weights from a fixed seed, so what is judged is whether quantnb finds their
layers, writes their files, and what the widths cost against the float network's own answers; not how accurate they are.

Of every network, one line of JSON as it ends, which is what a later run goes on from:

* stage1: weight-carrying Cells of the Conv and Dense kin and how many of them can be quantized, layers besides them, why the others stay float.
* engine, search: the whole way by the Python API, three episodes over 4 and 8 bits; engine and why, integer share, agreement of both files.
* ort: 8 bits everywhere by quantnb and by ONNX Runtime's `quantize_static`, from the same float file and the same calibration data,
  each as an error against float on 64 samples.
* status: 'ok'; 'error' for a QuantnbError, 'trace' for any other exception, with its first line and where it came out of quantnb;
  'timeout', 'memory' or 'crash' for what ended the process, with the step and the line of quantnb that it was in; 'mindspore' if the network does not run at all.

`--survey` makes the list below anew: it counts the weights of every model that mindcv registers, and runs the members of a family,
the smallest first, at one image size after the other, until one answers twice the same. This process never imports MindSpore."""
import argparse, json, os, re, signal, subprocess, sys, tempfile, time
from pathlib import Path
here = Path(__file__).resolve().parent
SIZES = 32,64,96,128,160,192,224,256
FAMILIES = dict( # smallest member and image size, by --survey; of mindcv 0.3, halonet and volo need ExtractImagePatches, which MindSpore has not on the CPU
    bit=('BiT_resnet50', 32), cait=('cait_xxs24_224', 224), cmt=('cmt_tiny', 160), coat=('coat_tiny', 224), convit=('convit_tiny', 224),
    convnext=('convnextv2_atto', 32), crossvit=('crossvit_9', 32), densenet=('densenet121', 32), dpn=('dpn92', 32), edgenext=('edgenext_xx_small', 32),
    efficientnet=('efficientnet_b0', 32), ghostnet=('ghostnet_050', 32), googlenet=('googlenet', 32), hrnet=('hrnet_w32', 32),
    inceptionv3=('inception_v3', 96), inceptionv4=('inception_v4', 96), mae=('mae_b_16_224_finetune', 224), mixnet=('mixnet_s', 32),
    mlpmixer=('mlp_mixer_s_p16', 224), mnasnet=('mnasnet_050', 32), mobilenetv1=('mobilenet_v1_025', 32), mobilenetv2=('mobilenet_v2_035_128', 32),
    mobilenetv3=('mobilenet_v3_small_075', 32), mobilevit=('mobilevit_xx_small', 32), nasnet=('nasnet_a_4x1056', 32), pit=('pit_ti', 224),
    pnasnet=('pnasnet', 32), poolformer=('poolformer_s12', 32), pvt=('pvt_tiny', 224), pvtv2=('pvt_v2_b0', 32), regnet=('regnet_x_200mf', 32),
    repmlp=('repmlp_t224', 224), repvgg=('repvgg_a0', 32), res2net=('res2net50', 32), resnest=('resnest14', 32), resnet=('resnet18', 32),
    resnetv2=('resnetv2_50', 32), rexnet=('rexnet_09', 32), senet=('seresnet18', 32), shufflenetv1=('shufflenet_v1_g3_05', 32),
    shufflenetv2=('shufflenet_v2_x0_5', 32), sknet=('skresnet18', 32), squeezenet=('squeezenet1_1', 32), swintransformer=('swin_tiny', 224),
    swintransformerv2=('swinv2_tiny_window8', 256), vgg=('vgg11', 224), visformer=('visformer_tiny_v2', 224), vit=('vit_b_16_224', 224),
    xception=('xception', 32), xcit=('xcit_tiny_12_p16_224', 32))
REPAIRS = dict( # mindcv 0.3 was written for an older MindSpore: family to (text, what it has to be now)
    pvt=[('resize_bilinear = ops.ResizeBilinear((H, W))', ''), ('resize_bilinear(pos_embed)', "ops.interpolate(pos_embed, size=(H, W), mode='bilinear')")],
    rexnet=[('cell.bias.dtype).reshape((-1))', 'cell.bias.dtype).init_data().reshape((-1))')])
OWN = 'bert','gpt','t5','vit_own','deeplab','retina','transformer','unet','lstm','gru','tcn'
ROWS,BATCH,CALIB,CLASSES = 64,8,4,10 # evaluated samples, samples a batch, batches to calibrate on

# ---- the parent: a child a network, watched ----

def watch(words, seconds, gigabytes, folder):
    "Run a command to its end or to a limit: dict(end=exit code, 'timeout' or 'memory', seconds, peak_gb) of its whole process tree, and what it printed."
    import psutil
    with open(folder/'log', 'wb') as log:
        t,peak,end = time.time(),0,None
        p = psutil.Popen([sys.executable, __file__, *words], cwd=folder, env={**os.environ, 'TMPDIR':str(folder), 'GLOG_v':'3'}, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        while p.poll() is None:
            time.sleep(.2); tree = [p]
            try: tree += p.children(recursive=True)
            except psutil.Error: pass
            peak = max(peak, sum(map(rss, tree)))
            end = 'timeout' if time.time()-t>seconds else 'memory' if peak>gigabytes*2**30 else None
            if end:
                p.send_signal(signal.SIGUSR1); time.sleep(.5) # the child writes where it is
                for o in tree[::-1]:
                    try: o.kill()
                    except psutil.Error: pass
                p.wait()
    return dict(end=p.returncode if end is None else end, seconds=round(time.time()-t, 1), peak_gb=round(peak/2**30, 2)),(folder/'log').read_text(errors='replace')

def rss(p):
    try: return p.memory_info().rss
    except Exception: return 0 # it has just ended

def take(name, a):
    "The record of a network: what its child has written, and how the child ended."
    with tempfile.TemporaryDirectory(prefix='zoo_') as d:
        d = Path(d); out = d/'record.json'
        how,log = watch(['--child', name, str(out), '--rows', str(a.rows), *['--stage1']*a.stage1], a.time, a.memory, d)
        r = json.loads(out.read_text()) if out.exists() else dict(name=name)
    end = how.pop('end'); r.update(how, only_stage1=a.stage1, date=time.strftime('%Y-%m-%d %H:%M'))
    if end in ('timeout','memory'): r['status'] = end; r['where'] = ' < '.join('%s:%s %s'%m for m in re.findall(r'File "[^"]*/quantnb/([^"]+)", line (\d+) in (\w+)', log)[:3])
    elif end or 'status' not in r: r.update(status='crash', code=end, tail=[clean(l) for l in log.strip().splitlines()[-5:]])
    if r['status'] not in ('timeout','memory','crash'): r.pop('at', None)
    return r

def clean(text):
    "The first line without the paths of this machine."
    text = text.strip().split('\n')[0]
    for p in (str(here.parent), sys.prefix): text = text.replace(p+'/', '')
    return re.sub(r'(/[\w.-]+)+/(?=[\w.-]+)', '', text)[:300]

def read(f): return {r['name']:r for r in map(json.loads, f.read_text().splitlines())} if f.exists() else {}

def keep(f, r):
    "One record more in the file, in the place of an older one; another run may have written meanwhile."
    rs = {**read(f), r['name']:r}; tmp = f.with_name(f'.{f.name}.tmp')
    tmp.write_text(''.join(json.dumps(rs[k])+'\n' for k in sorted(rs, key=order))); tmp.replace(f)

def order(k): ns = list(names()); return (ns.index(k) if k in ns else len(ns), k)

def names():
    "Name of every network to its (family, image size); of those of zoo_nets, to ('own', None)."
    return {**{n:(f,s) for f,(n,s) in FAMILIES.items()}, **{n:('own',None) for n in OWN}}

# ---- the child: one network ----

def images(n, size, seed):
    "Smooth random images [n,3,size,size]: noise at several scales, each image with a brightness and a contrast of its own."
    import numpy as np
    rng = np.random.default_rng(seed); x = np.zeros((n,3,size,size), np.float32)
    for k in (2,4,8,16):
        t = np.linspace(0, k-1, size); i = np.minimum(t.astype(int), k-2); f = t-i
        up = np.zeros((size,k)); up[np.arange(size),i] = 1-f; up[np.arange(size),i+1] += f # bilinear
        x += np.einsum('yi,ncij,xj->ncyx', up, rng.normal(size=(n,3,k,k)), up).astype(np.float32)/2
    return (x*rng.uniform(.5, 1.5, (n,1,1,1))+rng.normal(0, .5, (n,3,1,1))).astype(np.float32)

def build(name):
    "A network, a function (n, seed) that gives the arrays of its inputs, and the axis of its classes (None: its outputs are numbers)."
    import numpy as np, mindspore as ms
    ms.set_seed(0); np.random.seed(0); family,size = names()[name]
    if family=='own': import zoo_nets; net,data,axis = zoo_nets.NETS[name]()
    else: net,data,axis = member(name, family),lambda n,seed: (images(n, size, seed),),-1
    net.set_train(False); live(net)
    return net,data,axis

def member(name, family):
    "A model of mindcv, from a repaired copy of its file where that is needed; MindSpore compiles from source, so the copy is a file."
    import importlib.util, mindcv
    if family in REPAIRS:
        spec = importlib.util.find_spec(f'mindcv.models.{family}'); text = Path(spec.origin).read_text()
        for old,new in REPAIRS[family]:
            if old not in text: raise ValueError(f'mindcv has changed: {family} needs no repair, or another')
            text = text.replace(old, new)
        f = Path(tempfile.mkdtemp())/f'{family}.py'; f.write_text(text)
        m = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location(spec.name, f)); sys.modules[spec.name] = m; spec.loader.exec_module(m) # registers its models anew
    return mindcv.create_model(name, num_classes=CLASSES, pretrained=False)

def live(net, seed=0):
    "What is initialised to one number - biases, scales of norms, layer scales - gets numbers as training gives them, for at 0 and 1 it could be dropped and nobody would see it."
    import numpy as np, mindspore as ms
    rng = np.random.default_rng(seed)
    for p in net.get_parameters():
        v = p.asnumpy()
        if not p.requires_grad or v.dtype!=np.float32 or not v.size or (v!=v.flat[0]).any(): continue
        c = float(v.flat[0]); gain = rng.uniform(.7, 1.3, v.shape)
        new = c*gain if abs(c)>=.1 else gain*.2 if c else gain if p.name.endswith('gamma') else rng.normal(0, .05, v.shape) # small numbers are layer scales
        p.set_data(ms.Tensor(new.astype(np.float32)))

def norms(net, xs):
    """Give batch norms the statistics of one batch: a forward moves them from where they are by `momentum`, so from 0 it tells them exactly.
    Their shifts are about 1: with half of every ReLU cut off, an untrained network doubles any disturbance in every few layers, and all widths would be noise."""
    import numpy as np, mindspore as ms
    from mindspore import nn
    bns = [c for _,c in net.cells_and_names() if isinstance(c, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))]
    if not bns: return
    mode = ms.get_context('mode'); ms.set_context(mode=ms.PYNATIVE_MODE); ms.set_seed(0); rng = np.random.default_rng(0)
    for c in bns:
        c.set_train(True); c.beta.set_data(ms.Tensor(rng.normal(1, .3, c.num_features).astype(np.float32)))
        for p in (c.moving_mean, c.moving_variance): p.set_data(ms.Tensor(np.zeros(c.num_features, np.float32)))
    try: net(*map(ms.Tensor, xs))
    finally: net.set_train(False); ms.set_context(mode=mode)
    for c in bns:
        m,v,k = c.moving_mean.asnumpy(),c.moving_variance.asnumpy(),c.momentum
        called = (v!=0).any()
        c.moving_mean.set_data(ms.Tensor((m/k).astype(np.float32))); c.moving_variance.set_data(ms.Tensor((v/k if called else v+1).astype(np.float32)))

def outputs(net, batches):
    "Outputs of all batches, each one array."
    import numpy as np, mindspore as ms
    rs = [net(*map(ms.Tensor, b)) for b in batches]
    return [np.concatenate([o.asnumpy() for o in os_]) for os_ in zip(*[r if isinstance(r, (tuple,list)) else (r,) for r in rs])]

def centre(net, batches, axis):
    "Take the mean off the classes, by the bias of the layer that makes them: with random weights one class is else the answer to everything."
    import numpy as np, mindspore as ms
    out = outputs(net, batches)[0]; n = out.shape[axis]; mean = out.mean(tuple(k for k in range(out.ndim) if k!=axis%out.ndim))
    for _,c in reversed(list(net.cells_and_names())):
        b = getattr(c, 'bias', None)
        if not isinstance(b, ms.Parameter) or b.shape!=(n,): continue
        old = b.asnumpy().copy(); b.set_data(ms.Tensor(old-mean)); new = outputs(net, batches)[0]
        if np.abs(np.moveaxis(out-new, axis, -1)-mean).max()<.01*np.abs(mean).max()+1e-5: return new
        b.set_data(ms.Tensor(old))
    return out

def squared(out, ref):
    "Squared error over the variance of float around its mean over the samples, the mean of all outputs."
    import numpy as np
    one = lambda a,b: float(((a-b)**2).sum()/max(((b-b.mean(0))**2).sum(), 1e-20))
    return float(np.mean([one(a.astype(np.float64), b.astype(np.float64)) for a,b in zip(out, ref)]))

def divergence(out, ref, axis):
    "Mean Kullback-Leibler divergence of the classes from float's."
    import numpy as np
    def logs(z): z = np.moveaxis(z, axis, -1).astype(np.float64); z = z-z.max(-1, keepdims=True); return z-np.log(np.exp(z).sum(-1, keepdims=True))
    p,q = logs(ref[0]),logs(out[0])
    return float((np.exp(p)*(p-q)).sum(-1).mean())

def agreement(out, ref, axis):
    "Percent: of the samples that get float's answer, or what the normalised error leaves of 100 where there are no classes."
    import numpy as np
    if axis is None: return 100*max(0., 1-squared(out, ref))
    z,r = out[0],ref[0]; m = r.mean(tuple(k for k in range(r.ndim) if k!=axis%r.ndim), keepdims=True)
    return 100*float(((z-m).argmax(axis)==(r-m).argmax(axis)).mean())

def first(e):
    "Class and first line of an exception; MindSpore begins with rules."
    lines = [l.strip() for l in str(e).splitlines() if l.strip(' -')]
    return clean(f'{type(e).__name__}: {lines[0] if lines else ""}')

def failure(e):
    "What a record says of an exception: whether quantnb meant it, its first line, the last lines of quantnb that it passed."
    import traceback
    from quantnb.types import QuantnbError
    at = [f for f in traceback.extract_tb(e.__traceback__) if '/quantnb/' in f.filename]; kind,_,text = first(e).partition(': ')
    return dict(status='error' if isinstance(e, QuantnbError) else 'trace', error=kind, text=text, where=' < '.join(f'{o.filename.rpartition("/quantnb/")[2]}:{o.lineno} {o.name}' for o in at[:-4:-1]))

def kin(net):
    "Path of every Cell of the Conv and Dense kin to the name of its weight."
    import mindspore as ms
    from mindspore import nn
    ks = tuple(getattr(nn, o) for o in dir(nn) if re.fullmatch(r'Conv[123]d(Transpose)?|Dense', o))+tuple(getattr(ms.mint.nn, o) for o in dir(ms.mint.nn) if re.fullmatch(r'Conv[123]d|ConvTranspose2d|Linear', o))
    return {p:c.weight.name for p,c in net.cells_and_names() if isinstance(c, ks)}

def stage1(net, inputs):
    "Cells of the kin that are layers the search may change, layers besides them, Cells that are no layer at all, why the others stay float."
    from collections import Counter
    from quantnb.all import read_graph
    t = time.time(); g = read_graph(net, inputs); cells = kin(net); found = {l.param for l in g.layers}; good = {l.param:l.path for l in g.layers if not l.reason}
    unseen = [p for p,w in cells.items() if w not in found]; more = [p for w,p in good.items() if w not in cells.values()]
    return dict(cells=len(cells), found=sum(w in good for w in cells.values()), more=len(more), more_first=more[:3], unseen=len(unseen), unseen_first=unseen[:3], quantizable=len(good),
        left=dict(Counter(l.reason for l in g.layers if l.reason)), operators=len(g.nodes), problems=len(g.problems), seconds=round(time.time()-t, 1))

class Opened:
    "A callback that tells when the engine is open; its work is not the search's, so its seconds are counted apart."
    def __init__(self, then): self.then,self.seconds = then,0.
    def before_search(self, search): t = time.time(); self.then(search); self.seconds = time.time()-t

def search(net, inputs, calib, evaluate, opened, folder):
    "The whole way: a task, three episodes, the files."
    from collections import Counter
    import mindspore as ms
    from quantnb.all import Task, tune
    task = Task(net=net, inputs=inputs, calib=[tuple(map(ms.Tensor, b)) for b in calib], evaluate=evaluate, bits=[4,8], act_bits=[8], max_episode=3, num_warmup=2, local_base_path=str(folder))
    t = time.time(); h = tune(task, callbacks=[opened], progress=False); r = h.result or {}; onnx = r.get('files', {}).get('onnx', {})
    return dict(seconds=round(time.time()-t-opened.seconds, 1), episodes=len(h), failed=[clean(e.reason) for e in h if e.status=='failed'], float=h.float['accuracy'], best=r.get('metrics', {}).get('accuracy'), file=onnx.get('accuracy'),
        table={o['name']:o['accuracy'] for o in r.get('table', [])}, integer=onnx.get('integer_macs'), float_layers=dict(Counter(onnx.get('float_layers', {}).values())),
        parity={k:dict(agreement=v['agreement'], max_diff=v['max_diff']) for k,v in r.get('parity', {}).items()}, compress_ratio=r.get('metrics', {}).get('compress_ratio'))

def engine(s):
    "What the search ran on, and the layers it had in the end."
    from collections import Counter
    return dict(engine=s.engine.name, why=clean(s.engine.why), no_onnx=clean(s.exporter.why), quantizable=len(s.graph.quantizable), left=dict(Counter(l.reason for l in s.graph.layers if l.reason)))

def against_ort(s, calib, batches, ref, axis, folder):
    """8 bits everywhere, by quantnb and by ONNX Runtime's own quantizer: all that it quantizes, and convolutions and products alone.
    `plain` is the error of the same file run node by node in float: what int8 weights lose beyond it is overflow in the kernels of processors without VNNI."""
    import numpy as np, onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from quantnb.all import Strategy
    f = folder/'float.onnx'; f.write_bytes(s.exporter.onnx(None)); made = s.exporter.onnx(Strategy.uniform([l.path for l in s.graph.quantizable], 8, 8))
    ins = ort.InferenceSession(f.read_bytes(), providers=['CPUExecutionProvider']).get_inputs(); types = {'tensor(int64)':np.int64, 'tensor(int32)':np.int32, 'tensor(bool)':np.bool_}
    def feed(b): return {i.name:np.asarray(x, types.get(i.type, np.float32)) for i,x in zip(ins, b)}
    class Reader(CalibrationDataReader):
        def __init__(self): self.it = map(feed, calib)
        def get_next(self): return next(self.it, None)
    def answers(m, optimized=True):
        o = ort.SessionOptions(); o.log_severity_level = 3
        if not optimized: o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        r = ort.InferenceSession(m, o, providers=['CPUExecutionProvider'])
        return [np.concatenate(c) for c in zip(*[r.run(None, feed(b)) for b in batches])]
    def errors(m):
        out = answers(m)
        return dict(squared=squared(out, ref), plain=squared(answers(m, False), ref), kl=None if axis is None else divergence(out, ref, axis), agreement=agreement(out, ref, axis))
    res = dict(float=errors(f.read_bytes()), quantnb=errors(made)); p = folder/'prepared.onnx'
    try: quant_pre_process(str(f), str(p), skip_symbolic_shape=True) # which its documentation asks for: batch norms folded, shapes known
    except Exception as e: p = f; res['unprepared'] = first(e)
    for k,ops in dict(ort=None, ort_products=['Conv','Gemm','MatMul']).items():
        try:
            q = folder/f'{k}.onnx'
            quantize_static(str(p), str(q), Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=ops, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, calibrate_method=CalibrationMethod.MinMax)
            res[k] = errors(q.read_bytes())
        except Exception as e: res[k] = dict(error=first(e))
    return res

def child(name, out, only_stage1, rows):
    "Everything of one network; the record is written after each step, so that a limit leaves what was known."
    import faulthandler, logging, numpy as np, mindspore as ms
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    ms.set_context(mode=ms.GRAPH_MODE)
    r = dict(name=name, family=names()[name][0], size=names()[name][1], rows=rows); out = Path(out); folder = out.parent
    def at(step): r['at'] = step; out.with_suffix('.tmp').write_text(json.dumps(short(r))); out.with_suffix('.tmp').replace(out)
    def attempt(step, f, *a):
        at(step)
        try: r[step] = f(*a)
        except Exception as e:
            import traceback; traceback.print_exc()
            r[step] = failure(e)
        return r[step]
    said = []; h = logging.Handler(logging.WARNING); h.emit = lambda m: said.append(clean(m.getMessage())); logging.getLogger('quantnb').addHandler(h)
    at('build')
    try:
        net,data,axis = build(name); xs = data(BATCH*CALIB, 1); calib = cut(xs); batches = cut(data(BATCH if only_stage1 else rows, 2)); inputs = tuple(ms.Tensor(x) for x in batches[0])
        r['weights'] = sum(int(np.prod(p.shape)) for p in net.get_parameters()); r['inputs'] = [list(x.shape) for x in inputs]
        at('norms'); only_stage1 or norms(net, xs)
        at('float'); t = time.time()
        if axis is not None and not only_stage1: centre(net, batches[:4], axis)
        ref = outputs(net, batches); r['outputs'] = [list(o.shape[1:]) for o in ref]; r['float_seconds'] = round(time.time()-t, 1)
        if not all(np.isfinite(o).all() for o in ref): raise ValueError('outputs that are not finite')
        if axis is not None and not only_stage1: r['answers'] = len(np.unique(ref[0].argmax(axis)))
    except Exception as e:
        import traceback; traceback.print_exc()
        r.update(failure(e), status='mindspore'); at(r['at']); return
    s = attempt('stage1', stage1, net, inputs)
    if 'status' not in s and not only_stage1:
        def opened(found): # before the episodes, for they may take longer than there is time
            attempt('engine', engine, found)
            if found.exporter.builder: attempt('ort', against_ort, found, calib, batches, ref, axis, folder)
            at('episodes')
        s = attempt('search', search, net, inputs, calib, lambda n: agreement(outputs(n, batches), ref, axis), Opened(opened), folder)
    r['status'] = s.get('status', 'ok'); r['warnings'] = list(dict.fromkeys(said))[:5]; at('end')

def cut(xs): return [tuple(x[k:k+BATCH] for x in xs) for k in range(0, len(xs[0]), BATCH)]

def short(o):
    "Numbers with five digits."
    if isinstance(o, dict): return {k:short(v) for k,v in o.items()}
    if isinstance(o, (list,tuple)): return [short(v) for v in o]
    return o if o is None or isinstance(o, (bool,int,str)) else float(f'{float(o):.5g}')

# ---- the survey: which networks, at which size ----

def count(out):
    "Weights of all models that mindcv registers: family to (weights, name), the smallest first."
    import numpy as np, mindspore as ms, mindcv
    from mindcv.models import registry
    from mindspore.nn.utils import no_init_parameters
    ms.set_context(mode=ms.PYNATIVE_MODE); res = {}
    def weights(n, f): return sum(int(np.prod(p.shape)) for p in member(n, f).get_parameters())
    for n in mindcv.list_models():
        f = registry._model_to_module[n]
        try:
            try:
                with no_init_parameters(): w = weights(n, f) # nothing is allocated
            except RuntimeError: w = weights(n, f) # it computes with its weights when it is made
        except Exception as e: print(n, first(e)); continue
        res.setdefault(f, []).append((w, n))
    Path(out).write_text(json.dumps({k:sorted(v) for k,v in res.items()})); ended()

def probe(name, family, out):
    "The smallest image size at which a model answers, one row an image, twice the same."
    import numpy as np, mindspore as ms
    ms.set_context(mode=ms.PYNATIVE_MODE); ms.set_seed(0); net = member(name, family).set_train(False)
    for s in SIZES:
        try:
            a,b = (net(ms.Tensor(images(2, s, 0))).asnumpy() for _ in range(2))
            if a.shape==(2,CLASSES) and np.isfinite(a).all() and np.array_equal(a, b): Path(out).write_text(json.dumps(s)); break
            print(name, s, a.shape)
        except Exception as e: print(name, s, first(e))
    ended()

def ended():
    "Leave without taking MindSpore apart, which complains of every Cell."
    sys.stdout.flush(); sys.stderr.flush(); os._exit(0)

def survey(a):
    "Print the list of families."
    with tempfile.TemporaryDirectory(prefix='zoo_') as d:
        d = Path(d); _,log = watch(['--count', str(d/'count')], 3000, a.memory, d); print(log, file=sys.stderr)
        for f,ms_ in json.loads((d/'count').read_text()).items():
            for w,n in ms_[:3]:
                o = d/'size'; o.unlink(missing_ok=True); _,log = watch(['--probe', n, f, str(o)], a.time, a.memory, d)
                if o.exists(): print(f"    {f}=({n!r}, {o.read_text()}), # {w/1e6:.1f} M", flush=True); break
                print(log[-1500:], file=sys.stderr)

# ---- the page ----

def page(rs):
    "A markdown table of the records."
    num = lambda v,f='.3g': '' if v is None else format(v, f)
    def row(r):
        g,s,o,e_ = r.get('stage1', {}),r.get('search', {}),r.get('ort', {}),r.get('engine', {}); par = s.get('parity', {}); e = next((x for x in (r, s, g) if x.get('text')), {})
        err = lambda k: ' / '.join(num((o.get(k) or {}).get(m)) for m in ('squared','plain')) if 'squared' in (o.get(k) or {}) else ''
        what = ('stage 1 only' if r.get('only_stage1') else 'ok') if r['status']=='ok' else f"{r['status']}: {e.get('error','')} {e.get('text','')[:90]}".strip(': ') if e else f"{r['status']} in {r.get('at','')} {r.get('where','')}".strip()
        return [r['name'], r.get('size') or '', num(r.get('weights') and r['weights']/1e6, '.1f'), f"{g['found']} of {g['cells']}"+f" + {g['more']}"*(g['more']>0) if 'cells' in g else '', e_.get('quantizable', ''), e_.get('engine', ''), num(s.get('integer') and 100*s['integer'], '.0f'),
            *(num(par[k]['agreement']*100, '.1f') if k in par else '' for k in ('onnx','mindir')), num(s.get('table', {}).get('uniform 8'), '.1f'), *(err(k) for k in ('quantnb','ort','ort_products')), num(r.get('seconds'), '.0f'), num(r.get('peak_gb'), '.1f'), what.replace('|', '/')]
    from collections import Counter
    head = ['network','image','M weights','Cells found + others','searched','engine','integer MACs %','ONNX agrees %','MINDIR agrees %','answers at 8 bits %','error, and without the kernels','of quantize_static','of its products alone','s','GB','']
    ort = [[(a[m], b[m]) for a,b in ((o.get('quantnb', {}), o.get('ort_products', {})) for o in (r.get('ort', {}) for r in rs)) if m in a and m in b] for m in ('squared','plain')]
    full,read_only = [r for r in rs if not r.get('only_stage1')],[r for r in rs if r.get('only_stage1')]; count_of = lambda o: ', '.join(f'{v} {k}' for k,v in Counter(r['status'] for r in o).most_common())
    text = f"{len(full)} networks the whole way: {count_of(full)}."+(f" {len(read_only)} more were only read: {count_of(read_only)}." if read_only else '')
    if ort[0]: text += f" At 8 bits everywhere, quantnb is nearer to float than `quantize_static` on convolutions and products in {sum(a<b for a,b in ort[0])} of {len(ort[0])}, in {sum(a<b for a,b in ort[1])} if the files are run node by node in float."
    why = Counter(); [why.update((r.get('engine') or r.get('stage1', {})).get('left', {})) for r in rs]
    lines = [text, '', '|'+'|'.join(head)+'|', '|---'*6+'|---:'*9+'|---|', *('|'+'|'.join(map(str, row(r)))+'|' for r in rs), '', 'Left float:', '', *(f'* {v} × {k}' for k,v in why.most_common())]
    return '\n'.join(lines)+'\n'

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--only', default='', help='networks whose name matches'); p.add_argument('--again', action='store_true', help='also those that are in the file')
    p.add_argument('--list', action='store_true'); p.add_argument('--stage1', action='store_true', help='read the graphs, nothing more'); p.add_argument('--page', nargs='?', const='-', metavar='FILE'); p.add_argument('--survey', action='store_true')
    p.add_argument('--time', type=float, default=300, help='seconds a network'); p.add_argument('--memory', type=float, default=8, help='GB a network'); p.add_argument('--rows', type=int, default=ROWS, help='samples to evaluate; fewer where 64 take too long'); p.add_argument('--out', type=Path, default=here/'zoo.jsonl')
    for k,n in dict(child=2, probe=3, count=1).items(): p.add_argument('--'+k, nargs=n, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: child(*a.child, a.stage1, a.rows); ended()
    if a.probe: return probe(*a.probe)
    if a.count: return count(*a.count)
    if a.survey: return survey(a)
    todo = [n for n in names() if re.search(a.only, n)]; old = read(a.out)
    if a.list:
        for n in todo: f,s = names()[n]; print(f'{n:28}{f:20}{s or "":>4}  {old[n]["status"] if n in old else ""}')
        return
    if a.page:
        text = page([r for n,r in old.items() if n in todo])
        return print(text, end='') if a.page=='-' else Path(a.page).write_text(text) and None
    for n in todo:
        if n in old and not a.again and (a.stage1 or not old[n].get('only_stage1')): continue
        r = take(n, a); keep(a.out, r); s = r.get('engine', {}); print(f"{n:28}{r['status']:10}{r['seconds']:6.0f} s {r['peak_gb']:5.1f} GB  {s.get('engine','')} {next((x['text'] for x in (r, r.get('search', {}), r.get('stage1', {})) if x.get('text')), '') or ' '.join(filter(None, [r.get('at'), r.get('where')]))}", flush=True)

if __name__=='__main__': main()
