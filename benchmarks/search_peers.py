"""Mixed precision of Sony's Model Compression Toolkit (MCT) and of AIMET beside the default agent: the same three networks, calibration images, search images and budgets as in `search.py`.

    python benchmarks/search_peers.py quantnb FOLDER --export       # quantnb's environment: weights, images and budgets for the others
    python benchmarks/search_peers.py mct FOLDER                    # pip install torch torchvision model-compression-toolkit (2.14.1, 0.29.1 and 2.6.1 were used, Python 3.11)
    python benchmarks/search_peers.py aimet FOLDER                  # pip install torch torchvision aimet-torch (2.14.1, 0.29.1 and 2.42.0, Python 3.11)
    python benchmarks/search_peers.py quantnb FOLDER [--seeds 3] [--evaluations 50]

Each tool has an environment of its own, which knows nothing of quantnb; options of all: [--nets mobilenet resnet14 vit] [--settings 'W 2.5' 'W 3.0'] [--methods …] [--seeds N] [--out benchmarks/search_peers.json].
Two questions: what a tool's file is worth (its search, its quantizer), and what its choice of widths is worth when quantnb's quantizer carries it out; the last command answers the second one and
runs the default agent and its integer program with the same budgets. Evaluations of the seeds are shared, so only the first seed's time counts; all times were taken on a busy machine, `cpu_seconds` least wrongly. The 2000 test images are shown to the finished networks only. Figures are kept as they come; a second run goes on.

*MCT*: candidates of 8 to 2 bits for the weights of each layer, activations 8 bits. Its stock platforms know 8, 4 and 2 bits, so the platform is the stock one (IMX500, version 1.0) with more widths; thresholds of activations are not restricted to
powers of two. `weights_memory` is the budget. Methods: `PTQ`, all settings as they are; `PTQ, Hessian`, `use_hessian_based_scores`; `PTQ, 512 images`, all calibration images for the sensitivities in place of 32;
`GPTQ`, the first one's widths, then MCT's gradient-based rounding, 50 epochs. Seeds after the first draw the order of the calibration images.
*AIMET*: `choose_mixed_precision` takes an accuracy that has to be kept, no budget. It measures each group of quantizers alone at each width, sorts these steps by their score (`accuracy_list`), and goes along that list as far as the accuracy allows.
Here the same list is followed to the first entry whose weights fit the budget; norms, which have no part in the budget, keep 8 bits. Scores: SQNR of 128 search images, its own default; or `accuracy`, of all 1000. Per-channel weights, the library's default configuration for that, batch norms folded. After that `SeqMSE` or `AdaRound` or nothing. Nothing in it is random except AdaRound's batches.
`not_run` in the results has the methods for which there are no figures; 'WA 5.0' (AIMET only, since MCT limits weights and activations apart) has not been run either."""
import argparse, copy, json, os, sys, tempfile, time
os.environ.setdefault('OMP_NUM_THREADS', '1')
from pathlib import Path
import numpy as np

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
SETTINGS = {'W 2.5':(2.5,range(8,1,-1),False), 'W 3.0':(3.,range(8,1,-1),False), 'WA 5.0':(5.,(8,4),True)} # average, widths, activations too
METHODS = dict(mct=('PTQ','GPTQ','PTQ, Hessian','PTQ, 512 images'), aimet=('SQNR','SQNR, SeqMSE','SQNR, AdaRound','accuracy, SeqMSE'), quantnb=('widths','agent'))

def bytes_of(sizes, widths): return sum((n*widths[k]+7)//8 for k,n in sizes.items())
def average(sizes, widths): return sum(n*widths[k] for k,n in sizes.items())/sum(sizes.values())

# -- MCT

def mct_run(net, sizes, budget, data, method, seed, widths, known):
    import torch, model_compression_toolkit as mct
    from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
    from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc
    from mct_quantizers import QuantizationMethod
    base,_,rest = (o if isinstance(o, list) else o.clone_and_edit(activation_quantization_method=QuantizationMethod.UNIFORM) for o in tpc.get_op_quantization_configs())
    platform = tpc.generate_tpc(rest, base, [base.clone_and_edit(attr_to_edit={KERNEL_ATTR:{WEIGHTS_N_BITS:b}}) for b in widths], 'widths'); x = data['calib_x']
    if seed: x = x[np.random.default_rng(seed).permutation(len(x))]
    def calib(): yield from ([x[k:k+32]] for k in range(0, len(x), 32))
    images = 512 if '512' in method else 32; o = dict(num_of_images=images, use_hessian_based_scores='Hessian' in method); torch.manual_seed(seed); np.random.seed(seed)
    if method=='GPTQ': o['configuration_overwrite'] = known['PTQ']['configuration']
    core = mct.core.CoreConfig(mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig(**o)); ru = mct.core.ResourceUtilization(weights_memory=budget)
    if method=='GPTQ': q,info = mct.gptq.pytorch_gradient_post_training_quantization(net, calib, ru, core, mct.gptq.get_pytorch_gptq_config(n_epochs=50), calib, platform)
    else: q,info = mct.ptq.pytorch_post_training_quantization(net, calib, ru, core, platform)
    names = {k.replace('.', '_'):k for k in sizes}; found = {names[k.removesuffix('_bn')]:w['weight'].num_bits for k,m in q.named_modules() if (w := getattr(m, 'weights_quantizers', {})) and k.removesuffix('_bn') in names}
    return q,found,dict(configuration=[int(c) for c in info.mixed_precision_cfg], images=dict(calibration=len(x), sensitivity=images, evaluations=len(sizes)*len(widths)) if method!='GPTQ' else dict(calibration=len(x), epochs=50))

# -- AIMET

def aimet_list(net, data, score, widths, coupled):
    "The quantized network's steps in AIMET's order, [(quantizers, activation, weight)]; with the time and the images that they took."
    from aimet_torch.amp.mixed_precision_algo import EvalCallbackFactory
    from aimet_torch.common.defs import CallbackFunc, QuantizationDataType
    from aimet_torch.mixed_precision import choose_mixed_precision
    import torch
    sim,calib = aimet_sim(net, data); I,x,y,seen = QuantizationDataType.int,torch.tensor(data['search_x'][:1000]),torch.tensor(data['search_y'][:1000]),[0]
    class Batches(list): batch_size = 64
    def right(m, *_): seen[0] += len(x); return float(torch.cat([m(b) for b in x.split(250)]).argmax(1).eq(y).float().mean())
    one = EvalCallbackFactory(Batches(x[:128].split(64)), lambda m, b: (seen.__setitem__(0, seen[0]+len(b)), m(b))[1]).sqnr(128) if score=='SQNR' else CallbackFunc(right)
    with tempfile.TemporaryDirectory() as d, torch.no_grad():
        choose_mixed_precision(sim, torch.tensor(data['calib_x'][:1]), [((b if coupled else 8,I),(b,I)) for b in widths], one, one, None, d, True, CallbackFunc(lambda m, _: calib(m)), use_all_amp_candidates=True)
        steps = json.loads((Path(d)/'.cache/accuracy_list.json').read_text())
    def bits(c): return [int(p.split(',')[0].strip('( ')) for p in c.split('), (')]
    return [(group, *(b if len(b)==2 else (b[0],None)), s) for group,c,s,_ in steps for b in [bits(c)]],seen[0]

def aimet_sim(net, data):
    import torch
    from aimet_torch.batch_norm_fold import fold_all_batch_norms
    from aimet_torch.common.defs import QuantScheme
    from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
    from aimet_torch.model_preparer import prepare_model
    from aimet_torch.quantsim import QuantizationSimModel
    x = torch.tensor(data['calib_x']); net = prepare_model(copy.deepcopy(net)).eval(); fold_all_batch_norms(net, (1,1,28,28))
    sim = QuantizationSimModel(net, x[:1], quant_scheme=QuantScheme.post_training_tf_enhanced, default_param_bw=8, default_output_bw=8, config_file=get_path_for_per_channel_config())
    def calib(m):
        with torch.no_grad(): [m(b) for b in x.split(64)]
    with torch.no_grad(): sim.compute_encodings(lambda m, _: calib(m), None)
    return sim,calib

def aimet_choice(sizes, budget, steps):
    "(widths, activations that are not 8) at the first entry whose weights fit."
    w,a = {k:8 for k in sizes},{}
    for group,act,width,_ in steps:
        for kind,name in group:
            if kind!='weight': a[name] = act
            elif name in w: w[name] = width # norms, which have no part in the budget, stay at 8 bits
        if bytes_of(sizes, w)<=budget: return w,a
    raise ValueError('nothing on the list fits the budget')

def aimet_run(net, data, method, seed, widths, acts):
    import torch
    torch.manual_seed(seed); sim,calib = aimet_sim(net, data); x = torch.tensor(data['calib_x']); mods = dict(sim.model.named_modules())
    for k,b in widths.items(): mods[k].param_quantizers['weight'].bitwidth = b
    for k,b in acts.items():
        if k.endswith('_input_quantizer_idx_0'): q = mods[k.removesuffix('_input_quantizer_idx_0')].input_quantizers[0]
        else: q = mods[k].output_quantizers[0]
        if q is not None: q.bitwidth = b
    class Batches(list): batch_size = 64
    batches = Batches(x.split(64))
    if 'SeqMSE' in method: from aimet_torch.seq_mse import apply_seq_mse; apply_seq_mse(sim, batches)
    if 'AdaRound' in method:
        from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
        from aimet_torch.batch_norm_fold import fold_all_batch_norms
        from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
        from aimet_torch.model_preparer import prepare_model
        from aimet_torch.quantsim import QuantizationSimModel
        from aimet_torch.common.defs import QuantScheme
        folded = prepare_model(copy.deepcopy(net)).eval(); fold_all_batch_norms(folded, (1,1,28,28)); named = dict(folded.named_modules())
        with tempfile.TemporaryDirectory() as d:
            rounded = Adaround.apply_adaround(folded, x[:1], AdaroundParameters(batches, len(batches), default_num_iterations=ADAROUND), d, 'r', default_param_bw=8, param_bw_override_list=[(named[k],b) for k,b in widths.items()], default_quant_scheme=QuantScheme.post_training_tf_enhanced, default_config_file=get_path_for_per_channel_config())
            new = QuantizationSimModel(rounded, x[:1], quant_scheme=QuantScheme.post_training_tf_enhanced, default_param_bw=8, default_output_bw=8, config_file=get_path_for_per_channel_config()); m = dict(new.model.named_modules())
            for k,b in widths.items(): m[k].param_quantizers['weight'].bitwidth = b
            new.set_and_freeze_param_encodings(str(Path(d)/'r.encodings')); sim = new
    with torch.no_grad(): sim.compute_encodings(lambda m, _: calib(m), None)
    got = {k: int(dict(sim.model.named_modules())[k].param_quantizers['weight'].bitwidth) for k in widths}
    if got!=widths: raise RuntimeError(f'widths are {got}')
    return sim.model

ADAROUND = 2000 # steps a layer; the library's default is 10,000 for four bits and fewer

# -- runs

def tool(a, results, save):
    import torch, torchvision, torch_nets
    torch.set_num_threads(1); data,facts = np.load(a.folder/'data.npz'),json.loads((a.folder/'facts.json').read_text()); data = {k:data[k] for k in data.files}; from importlib.metadata import version
    results.setdefault('versions', {})[a.tool] = {k: version(k) for k in ('torch','torchvision','model-compression-toolkit' if a.tool=='mct' else 'aimet-torch')}|dict(python=sys.version.split()[0])
    x,y = torch.tensor(data['test_x']),torch.tensor(data['test_y'])
    for seed in range(a.seeds):
        for method in a.methods:
            for net in a.nets:
                for setting in a.settings:
                    f = facts[net]; sizes,budget = f['sizes'],f['budget'][setting]; avg,widths,coupled = SETTINGS[setting]; r = results.setdefault('runs', {}).setdefault(f'{net} {setting}', {}); k = f'{a.tool} {method} {seed}'
                    if k in r or (seed and (a.tool=='aimet' and 'AdaRound' not in method)) or (coupled and (a.tool=='mct' or 'AdaRound' in method)): continue
                    try:
                        t,c = time.time(),time.process_time(); model = torch_nets.load(a.folder, net); results.setdefault('float', {}).setdefault(net, {})['torch'] = torch_nets.accuracy(model, x, y)
                        if a.tool=='mct': q,w,more = mct_run(model, sizes, budget, data, method, seed, widths, {n.split(' ', 1)[1].rsplit(' ', 1)[0]:v for n,v in r.items() if n.startswith('mct') and n.endswith(f' {seed}')})
                        else:
                            kept = a.folder/f'{net}, {method.split(",")[0]}, {coupled}.json'
                            if not kept.exists(): s,n = aimet_list(model, data, method.split(',')[0], widths, coupled); kept.write_text(json.dumps(dict(steps=s, images=n, seconds=time.time()-t, cpu_seconds=time.process_time()-c)))
                            l = json.loads(kept.read_text()); w,acts = aimet_choice(sizes, budget, l['steps']); t,c = time.time(),time.process_time(); q = aimet_run(model, data, method, seed, w, acts); t,c = t-l['seconds'],c-l['cpu_seconds']
                            more = dict(images=dict(calibration=len(data['calib_x']), scored=l['images']), activations={n:b for n,b in acts.items() if b!=8})
                        took = dict(seconds=time.time()-t, cpu_seconds=time.process_time()-c)
                        if set(w)!=set(sizes): raise RuntimeError(f'no width for {set(sizes)-set(w)}')
                        r[k] = dict(test=torch_nets.accuracy(q, x, y), average=average(sizes, w), fits=bytes_of(sizes, w)<=budget, **took, **more, widths=w)
                    except Exception as e:
                        import traceback; traceback.print_exc(); r[k] = dict(error=f'{type(e).__name__}: {str(e).splitlines()[0][:300] if str(e) else ""}')
                    save(); print(f'{net} {setting}', k, {n:v for n,v in r[k].items() if n not in ('widths','configuration','activations')}, flush=True)

def export(a):
    import search, quantizer_nets as zoo, mindspore as ms
    from quantizer_nets import fashion
    from quantnb.all import read_graph
    a.folder.mkdir(parents=True, exist_ok=True); np.savez(a.folder/'data.npz', **{f'{p}_{k}':v for p in ('calib','search','test') for k,v in zip('xy', fashion.images({}, p))}); facts = {}
    for n in a.nets:
        net = zoo.load(n); np.savez(a.folder/f'{n}.npz', **{p.name:p.asnumpy() for p in net.get_parameters()}); sizes = {l.path:int(l.n) for l in read_graph(net, (ms.Tensor(fashion.images({}, 'calib')[0][:1]),)).quantizable}
        facts[n] = dict(sizes=sizes, budget={k:sum(int((v*o[0]+7)//8) for v in sizes.values()) for k,o in SETTINGS.items()})
    (a.folder/'facts.json').write_text(json.dumps(facts, indent=1))

def own(a, results, save):
    "What quantnb's quantizer makes of the tools' widths; and the default agent and its integer program."
    import search; from quantnb.all import Gptq, Strategy, divergence, sequential; from quantnb.run.pipeline import DAMPINGS; from quantnb.run.history import environment
    results.setdefault('versions', {})['quantnb'] = environment()
    for net in a.nets:
        for setting in a.settings:
            r = results.setdefault('runs', {}).setdefault(f'{net} {setting}', {}); own = results.setdefault('own', {}).setdefault(f'{net} {setting}', {}); avg,widths,coupled = SETTINGS[setting]
            todo = [k for k,v in r.items() if 'widths' in v and 'own' not in v and not coupled] if 'widths' in a.methods else []; runs = [f'{n} {s}' for n,ss in (('Uniform',1),('SensitivityILP',1),('MsQuantRL',a.seeds),('MsQuantRL, in sequence',a.seeds)) for s in range(ss) if f'{n} {s}' not in own] if 'agent' in a.methods else []
            if not todo and not runs: continue
            c0 = time.process_time(); b = search.Bench(net, setting, a.cache, search.fashion.images({}, 'test')); prepared = dict(prepare_seconds=b.seconds, prepare_cpu_seconds=time.process_time()-c0); t = b.problem.project.threshold; results.setdefault('float', {}).setdefault(net, {})['quantnb'] = b.accuracy(b.float['test'], 'test'); own['threshold'] = t; sizes = {l.path:int(l.n) for l in b.engine.graph.quantizable}
            def delivered(s):
                "The same after the rounding in sequence that the pipeline gives its finalists: of two dampings whichever is nearer to float on the search images."
                found = []
                for d in DAMPINGS:
                    o = sequential(b.engine.builder, s, method=Gptq(damping=d)); found.append((divergence((b.float['search'],), (b.logits(o, 'search'),), b.engine.kinds), b.accuracy(b.logits(o, 'test'), 'test'))); b.engine.builder.drop(o.own); b.engine.quantizer.drop(o.own)
                return dict(zip(('divergence','test'), min(found)))
            made = {}
            def in_sequence(s):
                "Divergence of the strategy with weights of its own, as the default's episodes have them on networks of this size."
                if s not in made: o = b.in_sequence(s); made[s] = b.off(b.logits(o, 'search'), 'search'); b.drop(o)
                return made[s]
            def facts(s): return dict(test=100*float(b.test(s)[0].mean()), delivered=delivered(s), divergence=b(s)['divergence'], accuracy=b(s)['accuracy'], average=average(sizes, {k:v.w for k,v in s.items()}), fits=bool(b.problem.cost.ratio(s)>=t-1e-9))
            for k in todo: r[k]['own'] = facts(Strategy({n:(w,8) for n,w in r[k]['widths'].items()})); save(); print(net, setting, k, 'test', r[k]['test'], 'own', r[k]['own'], flush=True)
            for k in runs:
                name,seed = k.rsplit(' ', 1); t0,c0 = time.time(),time.process_time(); alg,*how = name.split(', '); n = a.evaluations if alg=='MsQuantRL' else 1; ss,vs,*_ = search.run(alg, search.replace(b.problem, rough=bool(how)), in_sequence if how else lambda s: b(s)['divergence'], int(seed), n); took = dict(seconds=time.time()-t0, cpu_seconds=time.process_time()-c0)
                own[k] = dict(**facts(ss[int(np.argmin(vs))]), evaluations=n, **prepared, **took, widths={p:int(v.w) for p,v in ss[int(np.argmin(vs))].items()}); save(); print(net, setting, k, {n:v for n,v in own[k].items() if n!='widths'}, flush=True)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('tool', choices=list(METHODS)); p.add_argument('folder', type=Path); p.add_argument('--export', action='store_true'); p.add_argument('--nets', nargs='*', default=['mobilenet','resnet14','vit']); p.add_argument('--settings', nargs='*', default=['W 2.5','W 3.0'], choices=list(SETTINGS))
    p.add_argument('--methods', nargs='*'); p.add_argument('--seeds', type=int, default=3); p.add_argument('--evaluations', type=int, default=50); p.add_argument('--cache', default=str(Path(tempfile.gettempdir())/'quantnb-search-peers')); p.add_argument('--out', type=Path, default=here/'search_peers.json'); a = p.parse_args(); a.methods = a.methods or METHODS[a.tool]
    results = json.loads(a.out.read_text()) if a.out.exists() else {}
    def save():
        f = a.out.with_suffix('.new'); f.write_text(json.dumps(results, indent=1)+'\n'); f.replace(a.out)
    if a.export: export(a)
    elif a.tool=='quantnb': own(a, results, save)
    else: tool(a, results, save)
