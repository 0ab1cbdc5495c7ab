"What a yml may say, what it may not, and how that is reported."
import pickle
from pathlib import Path
import pytest
from quantnb.config import ConfigError, Count, Policy, load, parse
from quantnb.quant.recipe import Recipe
from quantnb.script import ConfigDict, role_config
from quantnb.types import ranges, searches

DATA = Path(__file__).parent/'data'
SEED = DATA/'opt_caption_ms_quant.yml'

BASE = '''\
general:
  task: {task_id: t}
register:
  pkg_path: ["."]
  modules:
    - {module: model, script_network: get_model, ori_correct_func: calibrate, ori_eval_func: top1}
pipeline: [nas]
nas:
  model:
    model_desc:
      common: {network: get_model, input_shape: [1, 1, 28, 28]}
  search_algorithm:
    policy: {max_episode: 20, num_warmup: 10}
    objective_keys: [accuracy, compress_ratio, flops]
  search_space:
    hyperparameters:
      - {key: network.bit_candidates, range: [4, 8]}
  trainer: {seed: 0, calib_portion: 1.0}
  evaluator:
    device_evaluator: {hardware: CPU, repeat_times: 5}
'''

@pytest.fixture
def write(tmp_path):
    "Writes a text to a yml and gives its path."
    def f(text): (tmp_path/'quant.yml').write_text(text); return tmp_path/'quant.yml'
    return f

def problems(path, *sets, **kw):
    with pytest.raises(ConfigError) as e: load(path, sets, **kw)
    assert e.value.exit_code==2 and str(path) in str(e.value)
    return e.value.problems

def test_base_is_right(write): assert load(write(BASE)).notes==[]

# text that is replaced, by what, line, key, words of the error
BAD = [
    ('general:', 'genral:', 1, 'genral', 'did you mean "general"?'),
    ('{task_id: t}', '{task_id: t', 3, '', 'no valid YAML'),
    ('{task_id: t}', '{task_id: t, task_id: u}', 2, '', 'duplicate key "task_id"'),
    ('task_id: t', 'task_id: 5', 2, 'general.task.task_id', 'text is needed, not 5'),
    ('task_id: t', 'task_id: ../t', 2, 'general.task.task_id', 'folder name'),
    ('task_id: t', 'taskid: t', 2, 'general.task.taskid', 'did you mean "task_id"?'),
    ('["."]', '[nowhere]', 4, 'register.pkg_path.0', 'there is no folder'),
    ('module: model', 'modul: model', 6, 'register.modules.0.modul', 'did you mean "module"?'),
    ('[nas]', '[nsa]', 7, 'pipeline', 'did you mean "nas"?'),
    ('[nas]', '[]', 7, 'pipeline', 'one step'),
    ('pipeline: [nas]', '', 0, 'pipeline', 'is missing'),
    ('{network: get_model', '{network: get_modle', 11, 'nas.model.model_desc.common.network', '"get_model" is: one of the two is misspelt'),
    ('{network: get_model, ', '{', 11, 'nas.model.model_desc.common.network', 'is missing'),
    ('{network: get_model', '{network: {type: get_model, file_config: no.json}', 11, 'nas.model.model_desc.common.network.file_config', 'there is no file'),
    ('{network: get_model', '{network: {config: {a: 1}}', 11, 'nas.model.model_desc.common.network.type', 'is missing'),
    ('28, 28]', '28, x]', 11, 'nas.model.model_desc.common.input_shape', 'whole numbers'),
    ('28, 28]}', '28, 28], multiple_inputs: [1, 2]}', 11, 'nas.model.model_desc.common.input_shape', 'keep one'),
    ('max_episode: 20', 'max_episode: 0', 13, 'nas.search_algorithm.policy.max_episode', 'at least 1'),
    ('max_episode: 20', 'max_episode: True', 13, 'nas.search_algorithm.policy.max_episode', 'whole number'),
    ('max_episode: 20', 'max_episode: "20"', 13, 'nas.search_algorithm.policy.max_episode', '"20" (text)'),
    ('max_episode: 20', 'max_epsiode: 20', 13, 'nas.search_algorithm.policy.max_epsiode', 'did you mean "max_episode"?'),
    ('num_warmup: 10', 'num_warmup: 20', 13, 'nas.search_algorithm.policy.num_warmup', 'agent: random'),
    ('num_warmup: 10', 'seed: 10', 13, 'nas.search_algorithm.policy.seed', 'belongs to nas.trainer'),
    ('[accuracy, ', '[', 14, 'nas.search_algorithm.objective_keys', 'accuracy must be one'),
    ('flops]', 'flosp]', 14, 'nas.search_algorithm.objective_keys.2', 'did you mean "flops"?'),
    ('flops]', 'accuracy]', 14, 'nas.search_algorithm.objective_keys', 'each metric once'),
    ('flops]', 'flops]\n    reward_type: acc_frist', 15, 'nas.search_algorithm.reward_type', 'did you mean "acc_first"?'),
    ('flops]', 'flops]\n    objectives: {accuracy: min}', 15, 'nas.search_algorithm.objectives.accuracy', 'did you mean "MIN"?'),
    ('flops]', 'flops]\n    custom_reward: True', 15, 'nas.search_algorithm.custom_reward', 'metric_to_reward'),
    ('flops]', 'flops]\n    custom_reward: yes', 15, 'nas.search_algorithm.custom_reward', 'True, False'),
    ('flops]', 'flops]\n    custom_reward: bonus', 15, 'nas.search_algorithm.custom_reward', 'not registered'),
    ('flops]', 'flops]\n    metric_ratio: -1', 15, 'nas.search_algorithm.metric_ratio', 'at least 0'),
    ('flops]', 'flops]\n    latency_acc_ratio: -1', 15, 'nas.search_algorithm.latency_acc_ratio', 'at least 0'),
    ('flops]', 'flops]\n    acc_threshold: .nan', 15, 'nas.search_algorithm.acc_threshold', 'finite'),
    ('flops]', 'flops]\n    acc_threshold_mode: drop', 15, 'nas.search_algorithm.acc_threshold_mode', 'acc_threshold'),
    ('[4, 8]', '[8, 4]', 17, 'nas.search_space.hyperparameters.0.range', 'write [4, 8]'),
    ('[4, 8]', '[]', 17, 'nas.search_space.hyperparameters.0.range', 'at least one'),
    ('[4, 8]', '[0, 8]', 17, 'nas.search_space.hyperparameters.0.range', '0 is no width'),
    ('[4, 8]', '[8, 33]', 17, 'nas.search_space.hyperparameters.0.range', '33 is no width'),
    ('[4, 8]', '[7.5, 8]', 17, 'nas.search_space.hyperparameters.0.range', '7.5 is no width'),
    ('network.bit_candidates', 'network.bits', 17, 'nas.search_space.hyperparameters.0.key', 'one of'),
    ('network.bit_candidates', 'network.act_bit_candidates', 16, 'nas.search_space.hyperparameters', 'network.bit_candidates'),
    ('search_space:', 'search_space:\n    exclude: ["fc("]', 16, 'nas.search_space.exclude.0', 'regular expression'),
    ('search_space:', 'search_space:\n    pin: {fc: 9}', 16, 'nas.search_space.pin.fc', '9 is no width'),
    ('calib_portion: 1.0', 'calib_portion: 0', 18, 'nas.trainer.calib_portion', 'more than 0'),
    ('calib_portion: 1.0', 'custom_eval: {type: top1, metric: m}', 18, 'nas.trainer.custom_eval.metric', 'did you mean "metric_name"?'),
    ('calib_portion: 1.0', 'custom_calib: {func: f}', 18, 'nas.trainer.custom_calib.func', 'path'),
    (', ori_eval_func: top1', '', 18, 'nas.trainer.custom_eval', 'is missing'),
    ('flops]', 'latency]', 14, 'nas.search_algorithm.objective_keys', None),
    ('repeat_times: 5', 'repeat_times: 0', 20, 'nas.evaluator.device_evaluator.repeat_times', 'at least 1'),
    ('repeat_times: 5', 'remote_host: host', 20, 'nas.evaluator.device_evaluator.remote_host', 'http://host:port'),
    ('repeat_times: 5', 'om_input_shape: "1,3"', 20, 'nas.evaluator.device_evaluator.om_input_shape', 'name:1,3'),
    ('repeat_times: 5', 'muti_input: True, multi_input: True', 20, 'nas.evaluator.device_evaluator.multi_input', 'keep one'),
]

@pytest.mark.parametrize('old,new,line,key,words', BAD, ids=[f'{n} for {o}'.replace('\n', ' ') for o,n,*_ in BAD])
def test_bad(write, old, new, line, key, words):
    assert old in BASE
    text = BASE.replace(old, new, 1)
    if words is None: text,words = text.replace('CPU', 'Davinci'),'nothing can measure latency'
    found = problems(write(text))
    assert [(o.line, o.key) for o in found]==[(line,key)]
    assert words in found[0].text

def test_an_older_name_of_weight_storage(write):
    "Of tasks that were started before: 'int4' was the packed form."
    for old,new in dict(int8='int8', int4='packed').items(): assert load(write(BASE.replace('seed: 0', f'low_bits: {old}')), check_paths=False).trainer.weight_storage==new
    assert load(write(BASE), check_paths=False).trainer.weight_storage=='packed'
    assert [o.text for o in problems(write(BASE.replace('seed: 0', 'low_bits: int8, weight_storage: int8')))]==['another name of "weight_storage", which is there too; keep one of them']

def test_all_at_once(write):
    text = BASE.replace('task_id', 'taskid').replace('max_episode: 20', 'max_epsiode: 5').replace('[4, 8]', '[8, 4]').replace('calib_portion: 1.0', 'calib_portion: 2')
    assert sorted(o.line for o in problems(write(text), 'nas.trainer.sede=1', 'nonsense'))==[0,0,2,13,13,17,18]

@pytest.mark.parametrize('text,words', [('', 'empty'), ('- a', 'keys with values'), ('a: *b', 'undefined alias'), ('a:\n\t- b', 'a tab'), ('a: 1\n---\nb: 1', 'another document')])
def test_no_configuration(write, text, words): assert words in problems(write(text))[0].text

def test_files(tmp_path, write):
    assert problems(tmp_path/'gone.yml')[0].text=='there is no such file'
    write(BASE)
    assert 'did you mean "quant.yml"?' in problems(tmp_path/'quent.yml')[0].text
    assert 'folder' in problems(tmp_path)[0].text
    (tmp_path/'b.yml').write_bytes(b'\xff\xfe\x00')
    assert 'UTF-8' in problems(tmp_path/'b.yml')[0].text

@pytest.mark.parametrize('one,key,words', [('max_epsiode=3', 'max_epsiode', 'did you mean "max_episode"?'), ('type=x', 'type', 'whole path'), ('seed', 'seed', 'key=value'), ('seed=[1', 'seed', 'YAML'),
    ('seed=a', 'nas.trainer.seed', 'whole number'), ('trainer.sede=1', 'nas.trainer.sede', 'did you mean "seed"?'), ('nas.trainer.seed.x=1', 'nas.trainer.seed.x', 'nothing below'), ('max_episode=5', 'nas.search_algorithm.policy.num_warmup', 'warm-up')])
def test_bad_set(write, one, key, words):
    found = problems(write(BASE), one)
    assert [o.key for o in found]==[key] and words in found[0].text

def test_set(write):
    c = load(write(BASE), ['nas.trainer.seed=3', 'policy.agent=random'.replace('policy', 'search_algorithm.policy'), 'timeout=0', 'acc_threshold=0.5', 'network={type: get_model, config: {a: 1}}'.replace('network', 'model.model_desc.common.network')], max_episode=50, task_id=None)
    assert (c.seed, c.policy.agent, c.timeout, c.targets.accuracy, c.policy.max_episode, c.task_id)==(3, 'random', None, .5, 50, 't')
    assert c.roles['network'].config=={'a':1}

def test_seed():
    c = load(SEED, check_paths=False)
    assert (c.name, c.task_id, c.base_path, c.timeout, c.seed)==('nas', 'quant_caption', './tasks/', None, 234)
    assert (c.w_bits, c.a_bits, c.policy.max_episode, c.policy.num_warmup)==([8,32], None, 20, 10)
    assert c.objectives=={'accuracy':'MAX', 'compress_ratio':'MAX', 'flops':'MIN'} and list(c.objectives)==['accuracy','compress_ratio','flops']
    assert (c.targets.accuracy, c.targets.compress_ratio, c.targets.latency)==(.5, 40., None)
    assert {k: r.name for k,r in c.roles.items()}==dict(network='opt_caption_model_eval', inputs='get_input_data', calib='calib_func', evaluate='eval_func')
    assert c.trainer.custom_eval.config==c.nas.model.model_desc.common.network.config and c.trainer.custom_eval.config['start_learning_rate']==5e-5
    assert c.trainer.custom_eval.file_config=='/data/automlopt/config/ftcap_quant.json' and c.trainer.custom_eval.metric_name=='CIDEr'
    assert c.device_host is None
    assert [any(w in n for n in c.notes) for w in ('metric_to_reward','latency_threshold','no device','muti_input')]==[True]*4 and len(c.notes)==4

def test_seed_paths_are_checked(): assert {o.line for o in problems(SEED)}=={14, 33, 97, 101}

def test_image_classification():
    c = load(DATA/'image_classification.yml', check_paths=False)
    assert c.model.model_desc.common.specs[0].shape==[1,3,224,224] and c.policy.max_episode==30
    assert (c.roles['calib'].name, c.roles['calib'].path)==('calibrate', '/data/scripts/calibration.py')

def test_latency_ratio():
    c = load(DATA/'latency_ratio.yml')
    assert (c.search.metric_ratio, c.search.metric_to_reward, c.targets.latency, c.timeout)==(.3, 'latency', 5., 600.)
    assert [o.dtype for o in c.model.model_desc.common.specs]==['int32','float32']
    assert (c.device_host, c.device.muti_input)==('http://10.0.0.7:8888', True)
    assert c.notes[0].startswith('general.device_evaluate_before_train') and c.general.parallel_search

def test_scalars():
    c = load(DATA/'scalars.yml')
    assert c.name=='search' and c.search.policy.agent=='random' # `search` is also the short way to its section search_algorithm
    assert c.model.model_desc.common.specs[0].shape==[1,3,32,32] and (c.w_bits, c.a_bits)==([2,4,8], [8])
    assert c.trainer.custom_eval.config=={'width':8, 'depth':3} and c.roles['network'].config=={'width':8, 'depth':2}
    assert c.objectives['accuracy']==c.targets.direction=='MIN' and c.space.exclude==['^head'] and c.space.pin=={'^stem':8}
    assert isinstance(role_config(c.roles['evaluate']), ConfigDict)

@pytest.mark.parametrize('name', sorted(p.name for p in DATA.glob('*.yml')))
def test_effective_configuration_loads_to_the_same(name, tmp_path):
    c = load(DATA/name, check_paths=False)
    (tmp_path/name).write_text(c.to_yaml())
    again = load(tmp_path/name, check_paths=False)
    assert (again.general, again.registered, again.step)==(c.general, c.registered, c.step)
    assert again.to_yaml()==c.to_yaml()

def test_warmup_follows_max_episode_where_it_is_not_given(write):
    c = load(write(BASE.replace('max_episode: 20, num_warmup: 10', 'max_episode: 20'))); again = parse(c.to_yaml(), max_episode=9)
    assert (c.policy.num_warmup, again.policy.num_warmup)==(6, 3) and 'num_warmup: 6' in c.to_yaml(public=True)
    assert load(write(BASE.replace('max_episode: 20, num_warmup: 10', 'num_warmup: 4')), max_episode=7).policy.num_warmup==4

def test_frozen(write):
    c = load(write(BASE))
    with pytest.raises(Exception, match='frozen'): c.trainer.seed = 3
    with pytest.raises(AttributeError): c.nothing

def test_settings_of_an_algorithm_of_the_users_own(write):
    "They are kept until the module that registers the algorithm has been imported, and checked then, with lines and near names."
    text = BASE.replace('  search_algorithm:\n', '  search_algorithm:\n    type: HalfLife\n')
    good,bad = text.replace('num_warmup: 10}', 'num_warmup: 10, half_life: 3}'),text.replace('num_warmup: 10}', 'num_warmup: 10, half_lief: 3}')
    early = load(write(good)); assert early.policy.half_life==3 and early.checked() is early and load(write(bad)).policy.half_lief==3
    class Settings(Policy): half_life:Count=5
    searches.register('HalfLife')(type('HalfLife', (), dict(Settings=Settings)))
    try:
        c = early.checked(); assert type(c.policy) is Settings and c.policy.half_life==3
        assert pickle.loads(pickle.dumps(c)).policy.half_life==3
        assert load(write(good), ['half_life=7']).policy.half_life==7
        path = write(bad); p, = problems(path); assert 'unknown key; did you mean "half_life"?' in p.text and p.line==path.read_text().splitlines().index(next(l for l in bad.splitlines() if 'half_lief' in l))+1
        p, = problems(write(good), 'half_life=0'); assert 'at least 1' in p.text and 'command line' in p.text
        p, = problems(write(text.replace('num_warmup: 10}', 'num_warmup: 10, lr_actor: 0.1}'))); assert 'unknown key' in p.text, 'a key of another algorithm'
    finally: del searches['HalfLife']

def test_recipe(write):
    "Parts of `trainer.quant`: keys are checked by the file, names by the registries."
    p, = problems(write(BASE.replace('calib_portion: 1.0}', 'calib_portion: 1.0, quant: {roundin: nearest}}'))); assert 'did you mean "rounding"?' in p.text
    p, = problems(write(BASE.replace('calib_portion: 1.0}', 'calib_portion: 1.0, quant: {layers: {"fc(": {bias: none}}}}'))); assert 'no regular expression' in p.text
    r = Recipe.from_settings(load(write(BASE.replace('calib_portion: 1.0}', 'calib_portion: 1.0, observer: minmax, bias_correction: False, quant: {layers: {fc: {ranges: mse}}}}'))).trainer)
    assert (r.ranges, r.bias, r.layers)==('minmax', 'none', (('fc', {'ranges':'mse'}),))
    assert r.of('fc')['ranges'] is ranges['mse'] and r.of('conv')['ranges'] is ranges['minmax']
