"Hostile files: what failed once, and a small part of `fuzz.py`. An error with the file and the line in seconds and bounded memory, and never a stack of frames."
import os, resource
from pathlib import Path
import pytest
from quantnb.config import load
from quantnb.run.check import look_ahead
from quantnb.run.cli import main
from quantnb.types import ConfigError
import fuzz
from test_config import BASE

def swap(old, new): assert old in BASE, old; return BASE.replace(old, new, 1)
def seed(v): return swap('seed: 0', v)
def space(v): return swap('search_space:', f'search_space:\n    {v}')
LONG = 'a'*300
# name: text, line, words of the error
YMLS = dict(
    null_key=(seed('~: 0'), 18, 'a key is text, not nothing'), null_at_the_top=(BASE+'~: 1\n', 21, 'a key is text'), list_key=(BASE+'? [a, b]\n: 1\n', 21, 'a key is text'), number_key=(BASE+'3: 1\n', 21, 'the name of a step is text'),
    only_a_number_key=('8.0e-185: 1\npipeline: [nas]\n', 1, 'the name of a step is text'), number_key_in_a_section=(seed('3: 0'), 18, 'unknown key'),
    pipeline_of_booleans=(swap('[nas]', '[true]'), 7, 'the name of one step'), pipeline_of_lists=(swap('[nas]', '[[nas]]'), 7, 'the name of one step'), pipeline_of_numbers=(swap('[nas]', '[3]'), 7, 'the name of one step'),
    pipeline_empty_text=(swap('[nas]', '""'), 7, 'the name of one step'), pipeline_of_empty_text=(swap('[nas]', '[""]'), 7, 'the name of one step'), pipeline_a_number=(swap('[nas]', '5'), 7, 'the name of one step'), pipeline_keys=(swap('[nas]', '{a: 1}'), 7, 'the name of one step'),
    anchor_in_itself=(seed('seed: &a [*a]'), 18, 'contains itself'), anchor_in_its_keys=(BASE+'x: &x {a: *x}\n', 21, 'contains itself'), merge_of_itself=(BASE+'x: &x {<<: *x}\n', 21, 'contains itself'),
    nested_300=(seed('seed: '+'['*300+']'*300), 18, 'inside one another'), nested_2000=(seed('seed: '+'['*2000+']'*2000), 18, 'inside one another'), nested_keys=(seed('seed: '+'{a: '*2000+'}'*2000), 18, 'inside one another'), nested_marks=(BASE+'? '*2000, 21, 'inside one another'),
    long_number=(seed('seed: '+'9'*5000), 18, 'no valid int'), large_number=(seed('seed: '+'9'*30), 18, 'too large a number'), no_date=(seed('seed: 2024-13-45'), 18, 'no valid timestamp'), no_int=(seed('seed: !!int abc'), 18, '"abc" is no valid int'), no_bool=(seed('seed: !!bool abc'), 18, 'no valid bool'),
    code=(seed('seed: !!python/object/apply:os.system ["touch pwned"]'), 18, 'a whole number is needed'), half_a_character=(swap('["."]', '["\\ud800"]'), 4, 'half a character'), control=(BASE+'x: "\x01"\n', 21, '#x01 is not allowed'),
    too_many_repeats=(space('exclude: ["a{99999999999}"]'), 16, 'no regular expression'), too_many_repeats_of_a_layer=(seed('quant: {layers: {"a{99999999999}": {bias: none}}}'), 18, 'no regular expression'),
    pin_nested=(space('pin: {fc: [[8], 8]}'), 16, '[8] is no width'), pin_keys=(space('pin: {fc: [{a: 1}, 8]}'), 16, 'is no width'), pin_text=(space('pin: {fc: [8, x]}'), 16, '"x" is no width'), pin_nothing=(space('pin: {fc: [8, ~]}'), 16, 'nothing is no width'),
    long_folder=(swap('["."]', f'[{LONG}]'), 4, '255 bytes'), long_task=(swap('task_id: t', f'task_id: {LONG}'), 2, 'at most 100'), long_base=(swap('task_id: t', f'local_base_path: {LONG}'), 2, '255 bytes'), long_step=(BASE.replace('nas', LONG), 8, 'at most 100'), zero_in_a_path=(swap('["."]', '["a\\0b"]'), 4, 'no character 0'),
    keys_in_nothing=(swap('model_desc:\n      common: {network: get_model, input_shape: [1, 1, 28, 28]}', 'model_desc:'), 10, 'is missing'),
    alias_bomb=('a: &a [x,x,x,x,x,x,x,x,x]\n'+''.join(f'{c}: &{c} [{",".join([f"*{p}"]*9)}]\n' for p,c in zip('abcdefgh', 'bcdefghi'))+BASE, 1, 'its anchors stand for more'),
    long_list=(seed('seed: ['+','.join(['1']*100_000)+']'), 18, 'more than 20,000 values'), long_scalar=(seed('seed: '+'a'*5_000_000), 18, 'more than 500,000 characters'), two_thousand_mistakes=(seed(', '.join(f'k{i}: 1' for i in range(2000))), 18, 'unknown key'),
)
@pytest.mark.parametrize('name', YMLS)
def test_hostile_yml(name, tmp_path, monkeypatch):
    text,line,words = YMLS[name]; monkeypatch.chdir(tmp_path); f = tmp_path/'quant.yml'; f.write_text(text); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as e: load(f)
    assert any(o.line==line and words in o.text for o in e.value.problems) and str(f) in str(e.value) and len(e.value.problems)<=100, str(e.value)[:2000]
    assert os.listdir(tmp_path)==['quant.yml'] and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before<300_000 # KB

def test_a_device_that_never_ends_is_no_yml(capsys):
    assert main(['check', '/dev/zero'])==2 and 'more than 500,000 characters' in capsys.readouterr().err

def test_escaped_text_of_json_is_text(tmp_path): (tmp_path/'q.yml').write_text(swap('seed: 0', 'seed: 0, observer: "\\ud83d\\ude00"')); assert load(tmp_path/'q.yml', check_paths=False).trainer.observer=='\U0001f600'

def test_ymls_of_the_grammar_mutated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not fuzz.run_ymls(25, 20261127, tmp_path)
    assert sorted(os.listdir(tmp_path))==['model.py','quant.yml']

def changed(f, which=0):
    "One of the small models after a change."
    import onnx
    m = onnx.load_from_string(list(fuzz.models())[which]); f(m.graph); return m.SerializeToString()

def weight(**kw):
    def f(g):
        for k,v in kw.items(): setattr(g.initializer[0], k, v)
    return f
def wide(g): g.input[0].type.tensor_type.shape.dim[1].dim_value = 2**40
def reshaped(g): g.initializer[0].dims[0] = 2**62
def outside(g): t = g.initializer[0]; t.data_location = 1; e = t.external_data.add(); e.key,e.value = 'location','../../../../../etc/passwd'
def odd_input(g): g.input[0].type.tensor_type.elem_type = 29
def huge_constant(g):
    import numpy as np
    from onnx import helper as oh, numpy_helper as onp
    g.initializer.append(onp.from_array(np.array([2**40]), 'many')); g.node.insert(0, oh.make_node('ConstantOfShape', ['many'], ['zeros'])); g.node.append(oh.make_node('ReduceMax', ['zeros'], ['top'])); g.node.append(oh.make_node('Add', [g.node[-2].output[0], 'top'], ['sum'])); g.output[0].name = 'sum'
ONNX = dict(reshaped=(reshaped, 'cannot be read: '), truncated=(weight(raw_data=b'abc'), 'cannot be read: 3 bytes'), no_type=(weight(data_type=29), 'cannot be read: '), nan=(weight(raw_data=b'\0\0\xc0\x7f'*36), 'holds NaN'), too_wide=(wide, 'more than 2 GB'), outside=(outside, 'outside of the folder'), odd_input=(odd_input, 'no array of numbers'))
@pytest.mark.parametrize('name', ONNX)
def test_broken_onnx(name, tmp_path):
    from quantnb.types import InputError
    f,words = ONNX[name]; p = tmp_path/'net.onnx'
    with pytest.raises(InputError) as e: fuzz.look_at_onnx(changed(f), p)
    assert words in str(e.value) and str(p) in str(e.value) and e.value.exit_code==2

def test_a_few_numbers_that_ask_for_a_terabyte_are_not_computed(tmp_path):
    import quantnb.deploy.from_onnx as F; p = tmp_path/'net.onnx'; p.write_bytes(changed(huge_constant)); f = F._FromFile(F.load_model(p), p); f.take(); f.fold()
    assert 'ConstantOfShape' in [n.op_type for n in f.o.nodes]

@pytest.mark.parametrize('kind', ['onnx','ckpt'])
def test_mutated_files(kind, tmp_path, monkeypatch):
    import mindspore
    monkeypatch.chdir(tmp_path); bases,path,look = fuzz.bases_of(kind, tmp_path),tmp_path/f'net.{kind}',dict(onnx=fuzz.look_at_onnx, ckpt=fuzz.look_at_ckpt)[kind]
    bad = {k:why for k in range(12) if (why := fuzz.verdict(lambda: look(fuzz.case(kind, bases, 1, k), path), path))}; assert not bad
    assert set(os.listdir(tmp_path))<={path.name,'base.ckpt','script.py'}

def test_a_tensor_that_is_added_to_itself(tmp_path):
    "Found by case 140 of seed 2: its dequantizer was made twice under one name."
    def double(g): next(n for n in g.node if n.op_type=='Add').input[1] = next(n for n in g.node if n.op_type=='Add').input[0]
    fuzz.look_at_onnx(changed(double), tmp_path/'net.onnx')
