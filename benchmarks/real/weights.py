"""Readers for trained weights that run nothing of what they read.

A `.pth` is a pickle, and a pickle is a program: `read_torch` accepts the four names that a state dict needs and no other.
"""
import json, math, pickle, zipfile
from collections import OrderedDict
import numpy as np

_STORAGES = dict(FloatStorage='<f4', HalfStorage='<f2', DoubleStorage='<f8', LongStorage='<i8', IntStorage='<i4')
_MAGIC = 0x1950a86a20f9469cfc6c


class _View:
    "A tensor whose storage may not be read yet."
    def __init__(self, storage, offset, shape, strides, *_): self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, flat): # flat: the whole storage
        "A copy of the elements that the view shows; raises ValueError if they are not in the storage."
        last = self.offset+sum((n-1)*s for n, s in zip(self.shape, self.strides))
        if min((*self.shape, *self.strides, self.offset, 1)) < 0 or (math.prod(self.shape) and last >= len(flat)): raise ValueError('a tensor reaches beyond its storage')
        size = flat.itemsize
        return np.lib.stride_tricks.as_strided(flat[self.offset:], self.shape, [s*size for s in self.strides]).copy()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ('collections', 'OrderedDict'): return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'): return _View
        if module == 'torch' and name in _STORAGES: return np.dtype(_STORAGES[name])
        raise pickle.UnpicklingError(f'a state dict has no need of {module}.{name}')

    def persistent_load(self, pid): # ('storage', dtype, key, device, length[, view])
        if pid[0] != 'storage' or (len(pid) > 5 and pid[5] is not None): raise pickle.UnpicklingError(f'unknown storage {pid[:1]}')
        return pid[2], pid[1], pid[4]


def _arrays(views, storage): # storage: (key, dtype, length) -> flat array
    return {k: v.array(storage(*v.storage)) for k, v in views.items() if isinstance(v, _View)}


def read_torch(file):
    "Name to array of a state dict saved by torch, in its zip format or in the one before 1.6."
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as z:
            index = next(n for n in z.namelist() if n.endswith('/data.pkl')); top = index.removesuffix('data.pkl')
            with z.open(index) as f: views = _Unpickler(f).load()
            return _arrays(views, lambda key, dtype, n: np.frombuffer(z.read(f'{top}data/{key}'), dtype, n))
    with open(file, 'rb') as f:
        if _Unpickler(f).load() != _MAGIC: raise ValueError(f'{file} is no file of torch')
        for _ in 'version', 'system': _Unpickler(f).load()
        views = _Unpickler(f).load(); keys = _Unpickler(f).load()
        known = {v.storage[0]: v.storage[1:] for v in views.values() if isinstance(v, _View)}; flat = {}
        for k in keys:  # each storage is its length and its elements
            dtype, n = known[k]
            if int.from_bytes(f.read(8), 'little') != n: raise ValueError(f'{file}: a storage has another length than its tensor says')
            flat[k] = np.frombuffer(f.read(n*dtype.itemsize), dtype, n)
        return _arrays(views, lambda key, dtype, n: flat[key])


def read_safetensors(file):
    "Name to array: a header in JSON, then the bytes of all tensors."
    dtypes = dict(F32='<f4', F16='<f2', I64='<i8', I32='<i4')
    with open(file, 'rb') as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), 'little'))); data = f.read()
    header.pop('__metadata__', None)
    return {k: np.frombuffer(data[slice(*v['data_offsets'])], dtypes[v['dtype']]).reshape(v['shape']).copy() for k, v in header.items()}


def read_ct2(data):
    """Name to array of a model of CTranslate2, version 6, from its bytes; aliases are further names of the same array.

    A header, then for each variable its name, rank, lengths, type, size in bytes and content; texts are a length and end with a zero."""
    at = 0
    def take(dtype, n=1):
        nonlocal at
        a = np.frombuffer(data, dtype, n, at); at += a.nbytes
        return a
    number = lambda dtype: int(take(dtype)[0])
    text = lambda: take(np.uint8, number('<u2'))[:-1].tobytes().decode()
    if number('<u4') != 6: raise ValueError('no model of CTranslate2 of version 6')
    text(); number('<u4'); res = {} # the name of the network's kind, and its revision
    for _ in range(number('<u4')):
        name = text(); shape = [number('<u4') for _ in range(number('u1'))]
        kind = number('u1'); size = number('<u4'); dtype = {0: '<f4', 1: 'i1', 2: '<i2', 3: '<i4', 4: '<f2'}[kind]
        res[name] = take(dtype, size//np.dtype(dtype).itemsize).reshape(shape)
    for _ in range(number('<u4')): name = text(); res[name] = res[text()]
    return res


def read_onnx(file):
    """Name to array of an ONNX file's initializers.

    The exporter has renamed the matrices of dense layers, transposed: here they are `<layer>.weight` again, [out, in],
    by the bias that is added to their product."""
    import onnx
    from onnx import numpy_helper
    graph = onnx.load(str(file)).graph
    res = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    product = {n.output[0]: n.input[1] for n in graph.node if n.op_type == 'MatMul' and n.input[1] in res}
    for n in graph.node:
        if n.op_type != 'Add': continue
        bias = next((i for i in n.input if i.endswith('.bias')), None); made = next((i for i in n.input if i in product), None)
        if bias and made: res[bias.removesuffix('bias')+'weight'] = res.pop(product[made]).T.copy()
    return res


def load(net, arrays):
    "Put arrays into the parameters of a MindSpore network by name; every parameter must get one of its shape."
    import mindspore as ms
    params = {p.name: p for p in net.get_parameters()}
    wrong = [k for k, p in params.items() if k not in arrays or tuple(arrays[k].shape) != tuple(p.shape)]
    if wrong: raise ValueError(f'no array of the right shape for {len(wrong)} parameters: {", ".join(wrong[:5])}')
    ms.load_param_into_net(net, {k: ms.Parameter(ms.Tensor(np.ascontiguousarray(arrays[k], np.float32)), name=k) for k in params}, strict_load=True)
    return net.set_train(False)
