"""The functions that the yml names: the network, its inputs, its calibration and its evaluation.

The settings come from the JSON at `file_config` with the yml's `config` laid over it. Paths of data and checkpoint start from
the example's folder, that of the output from the current one. For a quick try, the environment variable
QUANTNB_EXAMPLE_SAMPLES is the largest number of scenes of each part.
"""
import json, math, os
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import mindspore as ms

from ..data import grammar, scenes
from ..model_mindspore.caption_ms import CaptionNet
from ..tools.metrics import caption_metrics
from ..tools.misc import read_config

EXAMPLE = Path(__file__).resolve().parents[2]
TRAINING = ('start_learning_rate', 'end_learning_rate', 'decay_steps', 'data_type', 'audio_dim', 'use_data_fix', 'use_mask_fix', 'init_loss_scale',
            'loss_scale_factor', 'scale_window', 'full_batch', 'data_url', 'train_url')  # of the original; nothing here depends on them
ABSENT = dict(use_vit='a ViT in front of the encoder', use_video='video', use_moe='experts', use_parallel='several devices', use_txt_out='a text encoder')


def check(opts):
    "`ValueError` for a setting that is not known, or that this example cannot fulfil."
    known = {*read_config(EXAMPLE/'config'/'ftcap_quant.json'), *TRAINING, *ABSENT}
    odd = [k for k in opts if k not in known]
    if odd: raise ValueError(f'{odd[0]}: there is no such setting; ' + (f'did you mean {near[0]}?' if (near := get_close_matches(odd[0], known, 1)) else f'there are {", ".join(sorted(known))}'))
    for k in ('beam_width', 'val_batch_size', 'img_dim', 'patch_size'):
        if not (isinstance(opts[k], int) and opts[k] > 0): raise ValueError(f'{k}: {opts[k]!r} is no positive whole number')
    for k, names in dict(language=grammar.LANGUAGES, eval_part=scenes.PARTS).items():
        if opts[k] not in names: raise ValueError(f'{k}: {opts[k]!r} is not one of {", ".join(names)}')
    for k, what in ABSENT.items():
        if opts.get(k): raise ValueError(f'{k}: this example has no network with {what}; set it to False')


def build(opts, compute_type=ms.float16):
    "The network as the settings describe it, its weights random."
    check(opts)
    d_in = opts.patch_size**2 if opts.use_patch else opts.img_dim  # raw patches, or features that somebody else has computed
    return CaptionNet(opts.model, d_in, opts.beam_width, grammar.start(opts.language), compute_type)


def opt_caption_model_eval(opts): # `ckpt_file`, `beam_width`, `language`, `use_patch`, `img_dim`, ...
    "The trained network in evaluation mode."
    net, file = build(opts), EXAMPLE/opts.ckpt_file
    if not file.is_file(): raise FileNotFoundError(f'ckpt_file: {file} does not exist; the path starts from the folder of the example')
    weights = {k: ms.Parameter(v.astype(ms.float32), name=k) for k, v in ms.load_checkpoint(str(file)).items()}
    rows, k = net.encoder.uniter.img_embeddings.img_linear.weight.shape[1], 'encoder.uniter.img_embeddings.img_linear.weight'
    if k in weights and weights[k].shape[1] != rows:
        raise ValueError(f'use_patch, patch_size, img_dim: these settings make rows of img_feat {rows} wide, and {file.name} is for rows of {weights[k].shape[1]}; it needs weights that were trained so')
    missing, _ = ms.load_param_into_net(net, weights, strict_load=True)
    if missing: raise ValueError(f'{file.name} lacks {len(missing)} parameters, such as {missing[0]}: it is not a checkpoint of this network')
    return net.set_train(False)


def _scenes(opts, part):
    if not opts.use_patch: raise ValueError('use_patch: the data are pictures; features of img_dim numbers a patch are not among them')
    return scenes.load(str(EXAMPLE/opts.data_file), part, int(os.environ.get('QUANTNB_EXAMPLE_SAMPLES') or 0) or None)


def _batches(opts, part):
    for b in _scenes(opts, part).batches(opts.val_batch_size, opts.patch_size): yield tuple(ms.Tensor(o) for o in b)


def get_input_data(opts=None): # `use_patch`, `patch_size`; the yml gives this function no settings, so the JSON of the example stands behind them
    "Two calibration scenes as `img_feat` [2,P,d], `img_pos_feat` [1,P], `attention_mask` [2,P], `gather_index` [2,P]."
    opts = read_config(EXAMPLE/'config'/'ftcap_quant.json', **(opts or {}))
    return tuple(ms.Tensor(o) for o in next(_scenes(opts, 'calib').batches(2, opts.patch_size)))


def calib_func(model, opts, calib_portion=1.): # `train_scenes`, `val_batch_size`
    "Caption a part of the training scenes once: `calib_portion` of their batches, as far as scenes for it ship."
    n = max(1, math.ceil(calib_portion*opts.train_scenes/opts.val_batch_size))
    for _, b in zip(range(n), _batches(opts, 'calib')): model(*b).asnumpy()


def captions(model, opts, part): # -> texts, one a scene
    "Captions by the network's `beam_width` beams, searched for over encoder and decoder, also where these are exported graphs."
    ids = np.concatenate([model(*b).asnumpy() for b in _batches(opts, part)])
    return [grammar.decode(row, opts.language) for row in ids]


def evaluate(model, opts, part):
    "Caption the scenes of one part, write the captions to `output_dir`, and compare them with five references each."
    texts, refs = captions(model, opts, part), _scenes(opts, part).texts(opts.language)
    predictions = {f'{part}-{i:04}': t for i, t in enumerate(texts)}
    references = {f'{part}-{i:04}': rs for i, rs in enumerate(refs)}
    res = caption_metrics(predictions, references, opts.language)
    out = Path(opts.output_dir)/'eval'
    out.mkdir(parents=True, exist_ok=True)
    stem = f'{Path(opts.ckpt_file).stem}_{part}_{opts.language}'
    (out/f'{stem}.json').write_text(json.dumps([dict(image_id=k, caption=v) for k, v in predictions.items()], ensure_ascii=False, indent=1), encoding='utf-8')
    (out/f'{stem}_metric.json').write_text(json.dumps(res, indent=1), encoding='utf-8')
    return res


def eval_func(model, opts): # `eval_part`, `output_dir`, `language`
    "CIDEr, Bleu and ROUGE-L on the search scenes."
    return evaluate(model, opts, opts.eval_part)

def confirm_func(model, opts):
    "The same on the confirmation scenes, which the search does not see."
    return evaluate(model, opts, 'confirm')

def test_func(model, opts):
    "The same on the test scenes, which nothing but the last report sees."
    return evaluate(model, opts, 'test')
