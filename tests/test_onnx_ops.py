"""Every lowering of a MindSpore operator against MindSpore, at the batch size that was read and at another one."""
import importlib
import sys

import quantnb  # noqa: F401  before mindspore: it sets the log level
import mindspore as ms
import numpy as np
import pytest
from mindspore import mint, nn, ops  # noqa: F401  used by the expressions below

from quantnb.deploy.onnx import WRITERS, Unsupported, _alive, read_at_batch, session, to_onnx
from quantnb.graph.ir import read_graph

B = 2  # rows of the first reading; B+1 of the second
IMG, SEQ, VEC, VOL, P = (4, 6, 6), (5, 6), (6,), (1, 4, 6, 6), ('pos', 6)

# name: (expression of a, b, c, shapes without the batch). A shape that begins with 'pos' is positive, with 'int' holds integers below 5.
EXPRESSIONS = {
    # element by element
    'arithmetic': ('(a+b, a-b, a*b, a/c, 2*a+1, 1/c, a**2, c**a, 2**a)', VEC, VEC, P), 'broadcast': ('a*b', IMG, (4, 1, 1)), 'a number by itself': ('(a*ms.Tensor(2.), a*ms.Tensor(2), a+ms.Tensor(np.arange(6), ms.float32))', VEC),
    'integers': ('(a+1, -a, ops.abs(a), ops.maximum(a, b), a**2, a//2, -a//3, a%3, (-a)%3, ops.fmod(-a, 3), ops.clamp(a, 1, 3), ops.where(a>2, a, 0))', ('int', 6), ('int', 6)),
    'integers and floats': ('(a/2, a*b, a*2.5, b*a+a, a>b, a>2.5, a==2)', ('int', 6), VEC), 'bits': ('(a&b, a|b, a^b)', ('int', 6), ('int', 6)), 'truth': ('((a>0)&(b>0), (a>0)|(b>0), ~(a>0), ops.logical_xor(a>0, b>0), ops.logical_not(a))', VEC, VEC),
    'powers': ('(ops.sqrt(a), ops.rsqrt(a), ops.square(a), ops.reciprocal(a), ops.pow(a, b))', P, VEC), 'logarithms': ('(ops.log(a), ops.log1p(a), ops.log2(a), ops.log10(a), ops.exp(b), ops.expm1(b), ops.exp2(b), ops.logaddexp(a, b))', P, VEC),
    'trigonometry': ('(ops.sin(a), ops.cos(a), ops.tan(a), ops.sinh(a), ops.cosh(a), ops.asinh(a), ops.atan(a))', VEC), 'inverse trigonometry': ('(ops.asin(ops.sin(a)), ops.acos(ops.cos(a)), ops.atanh(ops.sin(a)*.9), ops.acosh(1+b))', VEC, P),
    'rounding': ('(-ops.abs(a), ops.floor(a)+ops.ceil(a), ops.round(a*4), ops.Rint()(a*4), ops.sign(a), ops.trunc(a*3), ops.frac(a*3))', VEC), 'quotients': ('(a//2, a//b, ops.floor_divide(a, b), a%2, a%b, 3%b, ops.floor_mod(a, b), ops.fmod(a, b), ops.div(a, b, rounding_mode="trunc"))', VEC, P),
    'limits': ('(ops.maximum(a, b), ops.minimum(a, b), ops.clamp(a, -0.5, 1), ops.clip(a, None, 1.), ops.clamp(a, -c, c))', VEC, VEC, P), 'error function': ('(ops.erf(a), ops.erfc(a))', VEC),
    'not a number': ('(ops.isnan(a/b), ops.isinf(a/b), ops.isfinite(a/b), ops.nan_to_num(a/b), ops.nan_to_num(a/b, 1., 5., -5.))', VEC, ('int', 6)), 'sums of products': ('(ops.addn([a, b, a]), ops.addcmul(a, b, b, 0.5), ops.addcdiv(a, b, c, ms.Tensor(.5)), ops.lerp(a, b, 0.3))', VEC, VEC, P),
    'select': ('(ops.select(a>0, a, b), ops.where(a>=b, a, b), ops.where(a>0, a, 0.), ops.where(a>0, 1., 0.))', VEC, VEC), 'masked fill': ("(ops.masked_fill(a, a<0, -1.), ops.softmax(ops.masked_fill(a, a<-1, float('-inf')), -1))", SEQ),
    'comparisons': ('(a>b, ops.logical_and(a>b, ops.logical_not(a<=0)), ops.logical_or(a==b, a!=b), a<b, a>=0)', VEC, VEC), 'casts': ('(ops.cast(ops.cast(a, ms.float16)*2, ms.float32), ops.cast(a, ms.int32), a.astype(ms.int64), a.astype(ms.bool_))', VEC),
    # activations
    'activations': ("(ops.relu(a), ops.sigmoid(a), ops.tanh(a), ops.silu(a), ops.hardtanh(a), ops.relu6(a), ops.hardswish(a), ops.hardsigmoid(a), ops.elu(a), ops.leaky_relu(a, .1))", VEC),
    'more activations': ('(ops.softplus(a), ops.mish(a), ops.selu(a), ops.celu(a), ops.hardshrink(a), ops.softshrink(a), ops.softsign(a), ops.tanhshrink(a), ops.logsigmoid(a), ops.threshold(a, .1, -2.), ops.glu(a), ops.fast_gelu(a))', VEC),
    'gelu': ("(ops.gelu(a, approximate='tanh'), ops.gelu(a))", VEC), 'gelu by hand': ('0.5*a*(1+ops.erf(a/1.4142135381698608))', VEC),
    'in place': ('in_place(a, b)', VEC, VEC), 'assignment': ('assigned(a)', SEQ),
    # made of nothing
    'constants': ('(a+ops.zeros((6,), ms.float32), a+ops.arange(6), a+ops.linspace(0, 1, 6), a@ops.eye(6, 6, ms.float32), a+ops.full((6,), 2.))', VEC), 'constant outputs': ('(ops.ones_like(a), ops.full_like(a, 3.), a, ms.Tensor([1., 2.]))', VEC),
    'zeros of the batch': ('(ops.cat((ops.zeros((a.shape[0],2), ms.float32), a), 1), ops.zeros((a.shape[0],6), ms.float32)+a, ops.ones((a.shape[0],1,1), ms.float32)*ms.Tensor(np.ones((1,3,6), np.float32)), a.new_zeros((a.shape[0],6))+a)', VEC),
    'zeros on another axis': ('ops.cat((ops.zeros((2, a.shape[0], 6), ms.float32), a.swapaxes(0, 1)), 0)', SEQ),
    # products
    'matmul': ('(ops.matmul(a, b), ops.bmm(a, b), mint.matmul(a, b), mint.bmm(a, b), ops.baddbmm(c, a, b, beta=2))', (5, 6), (6, 3), (5, 3)), 'matmul transposed': ('ops.BatchMatMul(transpose_a=True, transpose_b=True)(a, b)', (6, 5), (3, 6)),
    'dense': ('(ops.dense(a, W, ms.Tensor(np.arange(3), ms.float32)), mint.nn.functional.linear(a, W), a@W.T, ops.matmul(a, W[0]), ops.tensor_dot(a, W.T, 1))', SEQ),
    'functional conv': ("(ops.conv2d(a, K, pad_mode='pad', padding=(1,0)), ops.conv2d(a, K, pad_mode='same'), ops.conv1d(a[:, :, 0], K[:, :, 0], pad_mode='same'))", IMG), 'functional conv 3d': ("ops.conv3d(a, ms.Tensor(np.arange(54).reshape(2,1,3,3,3)/54, ms.float32))", (1, 4, 6, 6)),
    'bias': ('(ops.bias_add(a, ms.Tensor(np.arange(4), ms.float32)), ops.bias_add(a[:, :, 0, 0], ms.Tensor(np.arange(4), ms.float32)))', IMG),
    'softmax': ('(ops.softmax(a, 1), ops.log_softmax(a, -1), ops.softmin(a), ops.logsumexp(a, 1))', SEQ), 'l2 normalize': ('(ops.L2Normalize(-1)(a), a/ops.norm(a, dim=-1, keepdim=True))', SEQ), 'lrn': ('ops.lrn(a, alpha=.5)', IMG),
    # shapes
    'reshape': ('a.reshape((a.shape[0], -1))', SEQ), 'merge rows': ('a.reshape((-1, 6))', SEQ), 'heads': ('a.reshape((a.shape[0], 5, 2, 3)).transpose(0,2,1,3).reshape((a.shape[0]*2, 5, 3))', SEQ),
    'flatten': ('(ops.flatten(a), mint.flatten(a, 1), a.flatten(start_dim=1, end_dim=2))', IMG), 'transpose': ('(a.swapaxes(1, 2), mint.permute(a, (0,2,1)), mint.transpose(a, 1, 2), ops.movedim(a, 1, 2))', SEQ), 'transpose of rows': ('((a.T*2).T, ops.t(ops.t(a)*2), mint.t(mint.t(a)*2))', VEC),
    'expand squeeze': ('(ops.squeeze(ops.expand_dims(a, 1)*2, 1), mint.unsqueeze(a, 1), mint.squeeze(a[:, None]*2, 1))', VEC), 'concat': ('(ops.cat((a, b), 1), ops.cat((a, b), 0), ops.stack((a, b), 1), ops.stack([a*i for i in range(3)], 1), ops.hstack((a, b)))', VEC, VEC),
    'split': ('(ops.split(a, 3, 1)[1], ops.chunk(a, 2, -1)[0], mint.split(a, 3, 1)[1], mint.split(a, (1,2,3), 1)[2], mint.chunk(a, 2, 1)[1], ops.Split(1, 2)(a)[0], ops.tensor_split(a, 2, -1)[0])', VEC), 'unstack': ('(ops.unstack(a, 1)[1], ops.unbind(a, 1)[4], mint.unbind(a, 1)[1], sum([x for x in ops.unbind(a, 1)]))', SEQ),
    'last row': ('(a[:, -1], a[:, 0])', SEQ), 'slice': ('(a[:, 1:4], a[:, 1:-1], a[:, -3:-1], a[:, 1:, ::2], a[:1])', SEQ), 'stride': ('(a[:, :, ::2], a[:, ::-1], a[..., 1:3], a[..., -1], a[0])', SEQ), 'new axis': ('(a[:, None, 2], a[:, 2, 3], a[:, None])', SEQ),
    'narrow': ('(ops.narrow(a, 1, 1, 3), mint.narrow(a, 1, 1, 3), mint.select(a, 1, 2), ops.slice(a, (0,1,0), (-1,2,-1)), ops.strided_slice(a, (0,1,0), (5,4,6), (1,1,1)))', SEQ),
    'flip': ('(ops.flip(a, (1,)), mint.flip(a, (1,)), ops.rot90(a, 1, [1, 2]))', SEQ), 'tril': ('(ops.tril(a), ops.tril(a, -1), ops.triu(a, 1), mint.triu(a, 1))', SEQ), 'roll': ('ms.numpy.roll(a, 2, 1)', SEQ),
    'pad': ('(ops.pad(a, (1,2,0,1)), ops.pad(a, (1,2), value=3.), ops.pad(a, (0,0,0,0,1,1)), ops.Pad(((0,0),(1,2),(0,1),(0,0)))(a))', IMG), 'pad reflect': ("(ops.pad(a, (1,2,2,1), mode='reflect'), ops.pad(a, (1,2,2,1), mode='replicate'), ops.pad(a, (1,2,2,1), mode='circular'))", IMG),
    'tile': ('(ops.tile(a, (1,2)), ops.repeat_interleave(a, 2, 1), ops.repeat_elements(a, 2, 1), mint.tile(a, (1,2)))', VEC), 'tile to batch': ('ops.tile(ms.Tensor(np.ones((1,6), np.float32)), (a.shape[0],1))+a', VEC), 'broadcast to': ('(ops.broadcast_to(a[:, None], (a.shape[0],3,6)), mint.broadcast_to(a[:, None], (-1,3,6)), a[:, None].expand_as(b))', VEC, (3, 6)),
    'pixel shuffle': ('(ops.pixel_shuffle(a, 2), ops.pixel_unshuffle(a, 2), ops.channel_shuffle(a, 2), ops.DepthToSpace(2)(a), ops.SpaceToDepth(2)(a))', (8, 6, 6)),
    # by index
    'gather': ('(ops.gather(a, ms.Tensor([2,0], ms.int32), 1), ops.index_select(a, 1, ms.Tensor([2,0])), ops.gather(a, b, 1), ops.gather(a, b, 1, 1), ops.gather_elements(a, 1, b[:, :, None]))', SEQ, ('int', 3)), 'index by lists': ('(a[:, [0,2]], a[:, :, [1,1,0]], a[:, [0,1], [2,3]], a[:, ms.Tensor([1,0])])', SEQ),
    'index by rows': ('(a[ops.arange(a.shape[0]), b], ops.gather_nd(a, ms.Tensor([[0,1],[0,2]], ms.int32)))', SEQ, ('int',)), 'one hot': ('(ops.cast(ops.one_hot(a, 5), ms.float32), ops.OneHot()(a, 5, ms.Tensor(2.), ms.Tensor(-1.)))', ('int', 3)),
    'scatter': ('(ops.scatter(a, 1, b, a[:, :2]), ops.tensor_scatter_elements(a, b, a[:, :2], 1))', SEQ, ('int', 2, 6)), 'scatter to places': ('(ops.tensor_scatter_update(a, I, a[:1]*2), ops.tensor_scatter_add(a, I, a[:1]*2), ops.scatter_nd(I, a[:1], (4, 5, 6)))', SEQ), 'lengths': ('(ops.sequence_mask(a, 5), ops.arange(5).reshape(1, 5)<a.reshape(-1, 1))', ('int',)),
    # reductions
    'sums': ('(a.mean(-1), a.mean(1, keep_dims=True), a.sum(1), ops.prod(a, 1), ops.cumsum(a, 1), ops.CumSum(True, True)(a, 1), mint.sum(a, 1), mint.mean(a, 1), mint.prod(a, 1), ops.ReduceSum()(a, 1))', SEQ), 'sums of integers': ('(a.sum(-1), mint.sum(a, 1), (a>2).any(-1), ops.all(a>2, 1))', ('int', 3, 6)),
    'global mean': ('(ops.mean(a, (2,3)), ops.mean(a, (2,3), True), mint.mean(a, (2,3)), a.mean((1,2,3)))', IMG), 'norms': ('(ops.norm(a, dim=-1), ops.norm(a, ord=1, dim=-1), ops.LpNorm(1, 3)(a), ops.cosine_similarity(a, b, 1), a.var(-1), a.std(-1))', SEQ, SEQ),
    'deviations': ('(ops.var(a, 1, ddof=1, keepdims=True), ops.std(a, 1), ops.std_mean(a, 1)[1])', SEQ), 'extremes': ('(ops.amax(a, 1)+ops.amin(a, 1), a.max(axis=1, return_indices=True)[0], ops.ReduceMin()(a, 1), *ops.min(a, 1), *mint.max(a, 1), *mint.min(a, 1))', SEQ),
    'extreme of all': ('a*(ops.max(b)[0]+ops.min(b)[0]+mint.max(b)-mint.min(b))', VEC, (1,)), 'argmax': ('(ops.argmax(a, 1), ops.Argmax(1)(a), ops.argmin(a, 1), a.argmax(-1), ops.argmax(a, 1, keepdim=True))', SEQ),
    'top k': ('(*ops.topk(a, 2), ops.topk(a, 2, largest=False)[0], *ops.topk(a, 2, dim=1), *ops.sort(a, -1, True), *ops.Sort(1)(a), a.argsort())', SEQ),
    # pooling, patches, resizing
    'pooling': ('(ops.max_pool2d(a, 3, 2, 1), *ops.max_pool2d(a, 2, 2, return_indices=True), ops.avg_pool2d(a, 3, 2, 1), ops.lp_pool2d(a, 2, 2))', IMG), 'pooling 3d': ('(*ops.max_pool3d(a, 3, 2, 1, return_indices=True), ops.avg_pool3d(a, 2))', (1, 4, 6, 6)),
    'adaptive pooling': ('(ops.adaptive_avg_pool2d(a, (3,2)), ops.adaptive_avg_pool2d(a, (None,4)), ops.adaptive_max_pool2d(a, (3,2)), ops.adaptive_max_pool2d(a, (4,5)), ops.adaptive_max_pool2d(a, 1), ops.adaptive_max_pool1d(a[:, 0], 3), ops.adaptive_avg_pool1d(a[:, 0], 3))', IMG),
    'patches': ('(ops.unfold(a, 2, 1, 0, 2), ops.unfold(a, (3,2), 1, 1, 1), ops.unfold(a, 2, 2, 0, 1))', IMG), 'patches added': ('ops.fold(a, ms.Tensor([4,5], ms.int32), [2,2], [1,1], [1,1], [1,2])', (8, 15)),
    'nearest': ("(ops.interpolate(a, size=(12,12), mode='nearest'), ops.interpolate(a, size=(11,9), mode='nearest'), ops.interpolate(a, size=(3,4), mode='nearest-exact'), ops.ResizeNearestNeighbor((9,9))(a), ops.ResizeNearestNeighbor((9,9), True)(a), ops.interpolate(a[:, 0], size=9, mode='nearest'))", IMG), 'area': ("ops.interpolate(a, size=(3,4), mode='area')", IMG),
    'bilinear': ("(ops.interpolate(a, size=(12,9), mode='bilinear', align_corners=False), ops.interpolate(a, size=(11,9), mode='bilinear', align_corners=True), ops.interpolate(a, scale_factor=2., mode='bilinear', recompute_scale_factor=True), ops.ResizeBilinearV2()(a, (9,9)), ops.interpolate(a, size=(3,4), mode='bilinear'))", IMG),
    'linear': ("(ops.interpolate(a, size=9, mode='linear', align_corners=False), ops.interpolate(a, size=9, mode='linear', align_corners=True))", SEQ), 'mint nearest': ("mint.nn.functional.interpolate(a, size=(11,9), mode='nearest')", IMG),
    'bicubic': ("(ops.interpolate(a, size=(11,9), mode='bicubic', align_corners=True), ops.interpolate(a, size=(11,9), mode='bicubic', align_corners=False), ops.interpolate(a, size=(3,4), mode='bicubic'))", IMG),
    'grid sample': ("(ops.grid_sample(a, b, align_corners=True), ops.grid_sample(a, b, align_corners=False), ops.grid_sample(a, b, mode='nearest', padding_mode='border'), ops.grid_sample(a, b, padding_mode='reflection'))", IMG, (3, 3, 2)),
}
LOOSE = {'bicubic': (1e-2, 3e-3), 'mint bicubic': (1e-2, 3e-3)}  # MindSpore's own comes from a table of 1024 places

CELLS = {
    'conv same': ('nn.Conv2d(4,8,3)', IMG), 'conv same stride': ('nn.Conv2d(4,8,3,2,has_bias=True)', IMG), 'conv valid': ("nn.Conv2d(4,8,3,pad_mode='valid')", IMG), 'conv pads differ': ("nn.Conv2d(4,8,3,pad_mode='pad',padding=(2,0,1,3))", IMG),
    'conv kernel not square': ('nn.Conv2d(4,8,(1,5))', IMG), 'conv dilated': ('nn.Conv2d(4,4,3,dilation=2)', IMG), 'conv grouped': ('nn.Conv2d(4,8,3,group=2,has_bias=True)', IMG), 'conv depthwise': ('nn.Conv2d(4,4,3,2,group=4)', IMG),
    'conv1d': ('nn.Conv1d(5,4,3,has_bias=True)', SEQ), 'conv1d stride': ('nn.SequentialCell(nn.Conv1d(5,4,3), nn.ReLU(), nn.Conv1d(4,3,3,2))', SEQ), 'conv3d': ("nn.SequentialCell(nn.Conv3d(1,2,3,2,pad_mode='pad',padding=(0,1,1,2,2,0),has_bias=True), nn.BatchNorm3d(2))", VOL),
    'conv transpose': ('nn.Conv2dTranspose(4,3,3,2)', IMG), 'conv transpose pad': ("nn.Conv2dTranspose(4,3,3,2,pad_mode='pad',padding=1,output_padding=1)", IMG), 'conv transpose valid': ("nn.Conv2dTranspose(4,3,2,2,pad_mode='valid',has_bias=True)", IMG), 'conv transpose grouped': ('nn.Conv2dTranspose(4,4,3,2,group=2)', IMG),
    'conv1d transpose': ("nn.Conv1dTranspose(5,4,3,2,pad_mode='valid',has_bias=True)", SEQ), 'conv3d transpose': ("nn.Conv3dTranspose(1,2,3,2,pad_mode='pad',padding=(0,1,1,1,1,0))", VOL),
    'dense': ('nn.Dense(6,3)', VEC), 'dense sequence': ('nn.Dense(6,3)', SEQ), 'dense no bias': ('nn.Dense(6,3,has_bias=False)', VEC), 'dense relu': ("nn.Dense(6,3,activation='relu')", SEQ), 'bilinear': ('nn.BiDense(6,6,3)', VEC, VEC),
    'mint linear': ('mint.nn.Linear(6,3)', SEQ), 'mint linear 2d': ('mint.nn.Linear(6,3)', VEC), 'batch norm': ('nn.BatchNorm2d(4)', IMG), 'batch norm 1d': ('nn.BatchNorm1d(6)', VEC), 'layer norm': ('nn.LayerNorm((6,))', SEQ), 'group norm': ('nn.GroupNorm(2,4)', IMG),
    'layer norm two axes': ('nn.LayerNorm((5,6),1,1)', SEQ), 'relu6': ('nn.ReLU6()', IMG), 'hswish': ('nn.HSwish()', IMG), 'hsigmoid': ('nn.HSigmoid()', IMG), 'silu': ('nn.SiLU()', IMG), 'gelu': ('nn.GELU()', IMG), 'gelu cell exact': ('nn.GELU(approximate=False)', IMG),
    'elu': ('nn.ELU()', IMG), 'leaky relu': ('nn.LeakyReLU(0.1)', IMG), 'prelu': ('nn.PReLU(4)', IMG), 'prelu of rows': ('nn.PReLU(6)', VEC), 'log sigmoid': ('nn.LogSigmoid()', VEC), 'dropout': ('nn.SequentialCell(nn.Dropout(p=.3), nn.Dropout2d())', IMG), 'softmax2d': ('nn.Softmax2d()', IMG), 'channel shuffle': ('nn.ChannelShuffle(2)', IMG),
    'max pool': ('nn.MaxPool2d(2,2)', IMG), 'max pool same': ("nn.MaxPool2d(3,2,pad_mode='same')", IMG), 'max pool pad': ("nn.MaxPool2d(3,2,pad_mode='pad',padding=1)", IMG), 'max pool ceil': ("nn.MaxPool2d(3,2,pad_mode='pad',padding=1,ceil_mode=True)", IMG), 'max pool dilated': ("nn.MaxPool2d(3,2,pad_mode='pad',padding=1,dilation=2)", IMG),
    'avg pool': ('nn.AvgPool2d(2,2)', IMG), 'avg pool same': ("nn.AvgPool2d(3,2,pad_mode='same')", IMG), 'avg pool pad': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1,count_include_pad=False)", IMG), 'avg pool pad counted': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1)", IMG),
    'avg pool ceil': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1,ceil_mode=True)", IMG), 'avg pool divisor': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1,divisor_override=5)", IMG), 'max pool 1d': ("nn.MaxPool1d(3,2,pad_mode='same')", SEQ), 'max pool 1d pad': ("nn.MaxPool1d(3,2,pad_mode='pad',padding=1)", SEQ), 'avg pool 1d': ("nn.AvgPool1d(3,2,pad_mode='pad',padding=1)", SEQ),
    'max pool 3d': ('nn.MaxPool3d(2,2)', VOL), 'max pool 3d same': ("nn.MaxPool3d(3,2,pad_mode='same')", VOL), 'avg pool 3d': ('nn.AvgPool3d(2,2)', VOL), 'adaptive 1': ('nn.AdaptiveAvgPool2d(1)', IMG), 'adaptive': ('nn.AdaptiveAvgPool2d((2,4))', IMG), 'adaptive max': ('nn.AdaptiveMaxPool2d((3,4))', IMG),
    'pad': ("nn.SequentialCell(nn.Pad(((0,0),(0,0),(1,1),(2,2)),'SYMMETRIC'), nn.Pad(((0,0),(0,0),(1,1),(2,2)),'REFLECT'), nn.Pad(((0,0),(0,0),(1,0),(0,2))), nn.ReflectionPad2d((1,2,0,1)), nn.ZeroPad2d(1), nn.ReplicationPad2d(1))", IMG),
    'upsample': ("nn.SequentialCell(nn.Upsample(scale_factor=2.,mode='nearest',recompute_scale_factor=True), nn.Upsample(size=(9,9),mode='bilinear',align_corners=True), nn.PixelShuffle(2))", IMG),
    'embedding': ('nn.Embedding(5,4)', ('int', 3)), 'embedding one hot': ('nn.Embedding(5,4,use_one_hot=True)', ('int', 3)), 'embedding lookup': ('nn.EmbeddingLookup(5,4)', ('int', 3)),
    'attention': ('nn.TransformerEncoderLayer(6,2,8,batch_first=True,dropout=0.)', SEQ), 'decoder': ('nn.TransformerDecoderLayer(6,2,8,batch_first=True,dropout=0.)', SEQ, SEQ),
    'lstm': ('nn.LSTM(6,4,batch_first=True)', SEQ), 'lstm both directions': ('nn.LSTM(6,4,2,batch_first=True,bidirectional=True)', (3, 6)), 'lstm no bias, time first': ('nn.LSTM(6,4,has_bias=False)', (3, 6)), 'gru': ('nn.GRU(6,4,batch_first=True,bidirectional=True)', (3, 6)), 'rnn': ('nn.RNN(6,4,batch_first=True)', (3, 6)),
}

# mint operators without a kernel on this CPU: (expression, the same by operators that have one or by numpy, shapes)
EQUIVALENT = {
    'mint trigonometry': ('(mint.asin(mint.sin(a)), mint.acos(mint.cos(a)), mint.atan(a), mint.asinh(a), mint.acosh(1+b))', '(ops.asin(ops.sin(a)), ops.acos(ops.cos(a)), ops.atan(a), ops.asinh(a), ops.acosh(1+b))', VEC, P),
    'mint arithmetic': ('(mint.add(a, b, alpha=2), mint.sub(a, b, alpha=3), mint.sub(a, 1.5, alpha=2), mint.pow(2, a), mint.pow(b, 1.5), mint.div(a, b, rounding_mode="floor"), mint.fmod(a, b), mint.fmod(a, .3), mint.remainder(2.5, b), mint.floor_divide(a, .3))',
        '(a+2*b, a-3*b, a-3, 2**a, b**1.5, ops.floor_div(a, b), ops.fmod(a, b), ops.fmod(a, .3), 2.5%b, ops.floor_div(a, .3))', VEC, P),
    'mint sums of products': ('(mint.addcmul(a, a, b, value=.5), mint.addcdiv(a, a, b, value=2), mint.lerp(a, b, .3))', '(a+.5*a*b, a+2*a/b, a+.3*(b-a))', VEC, P),
    'mint exponents': ('(mint.exp2(a), mint.log2(b), mint.log10(b), mint.frac(a), mint.logsumexp(a, -1))', '(2**a, ops.log2(b), ops.log10(b), ops.frac(a), ops.logsumexp(a, -1))', VEC, P),
    'mint activations': ("(F.gelu(a), F.gelu(a, approximate='tanh'), F.elu(a), F.mish(a), F.selu(a), F.logsigmoid(a), F.softplus(a), F.softplus(a, 2, 1), F.hardtanh(a), F.relu6(a), F.leaky_relu(a, .1), F.threshold(a, .1, -2.), F.glu(a))",
        "(ops.gelu(a), ops.gelu(a, approximate='tanh'), ops.elu(a), ops.mish(a), ops.selu(a), ops.logsigmoid(a), ops.softplus(a), ops.where(2*a>1, a, ops.softplus(2*a)/2), ops.hardtanh(a), ops.relu6(a), ops.leaky_relu(a, .1), ops.threshold(a, .1, -2.), ops.glu(a))", VEC),
    'mint softmax': ('(F.log_softmax(a, -1), F.log_softmax(a))', '(ops.log_softmax(a, -1), ops.log_softmax(a, 0))', SEQ), 'swiglu': ('ops.auto_generate.Swiglu()(a, -1)', 'ops.silu(a[:, :3])*a[:, 3:]', VEC),
    'mint masks': ('(mint.where(a>0, a, 0.), a.masked_fill(a<0, -1.), mint.eq(a, a), mint.ge(a, .5), mint.isfinite(a), mint.nan_to_num(a))', '(ops.relu(a), ops.masked_fill(a, a<0, -1.), a==a, a>=.5, a==a, a)', VEC),
    'mint constants': ('(a+mint.ones_like(a), a+mint.zeros_like(a), a+mint.full((6,), 2.), a+mint.linspace(0, 1, 6), a*mint.full_like(a, 2.), a+mint.arange(6), a@mint.eye(6, 6))', '(a+1, a, a+2, a+ops.linspace(0, 1, 6), a*2, a+ops.arange(6), a)', VEC),
    'mint new tensors': ('(a+a.new_ones((a.shape[0], 6)), a+mint.ones((a.shape[0], 6)), a+mint.zeros((6,)), mint.clone(a), a+a.new_full((a.shape[0], 6), 2.), (a*2).view_as(a))', '(a+1, a+1, a, a, a+2, a*2)', VEC),
    'mint products': ('(mint.baddbmm(c, a, b, beta=2, alpha=3), mint.einsum("bij,bjk->bik", a, b), ops.einsum("bij,bjk->bik", a, b))', '(2*c+3*(a@b), a@b, a@b)', (5, 6), (6, 3), (5, 3)), 'mint mm': ('(mint.mv(a, W[0]), mint.mm(a, W.T), mint.addmm(W[:1, :3], a, W.T, beta=2, alpha=3))', '(a@W[0], a@W.T, 2*W[:1, :3]+3*(a@W.T))', VEC),
    'rms norm': ('ops.rms_norm(a, W[0])[0]', 'W[0]*a/ops.sqrt((a*a).mean(-1, True)+1e-6)', SEQ), 'mint layer norm': ('(F.layer_norm(a, (6,)), F.layer_norm(a, (5, 6)))', '((a-a.mean(-1, True))/ops.sqrt(a.var(-1, keepdims=True)+1e-5), (a-a.mean((1, 2), True))/ops.sqrt(a.var((1, 2), keepdims=True)+1e-5))', SEQ),
    'mint conv': ("(F.conv2d(a, K, padding=1), F.conv2d(a, K, padding='same'), F.conv2d(a, K, stride=2, padding='valid'), F.conv1d(a[:, :, 0], K[:, :, 0], padding='same'))", "(ops.conv2d(a, K, pad_mode='pad', padding=1), ops.conv2d(a, K, pad_mode='same'), ops.conv2d(a, K, stride=2), ops.conv1d(a[:, :, 0], K[:, :, 0], pad_mode='same'))", IMG),
    'mint conv 3d': ('F.conv3d(a, ms.Tensor(np.arange(54).reshape(2,1,3,3,3)/54, ms.float32))', 'ops.conv3d(a, ms.Tensor(np.arange(54).reshape(2,1,3,3,3)/54, ms.float32))', (1, 4, 6, 6)),
    'mint deviations': ('(mint.var(a, dim=1), mint.std(a, dim=1, keepdim=True), mint.var(a, dim=1, correction=0), *mint.std_mean(a, dim=1), *mint.var_mean(a, dim=1))', '(ops.var(a, 1, ddof=1), ops.std(a, 1, ddof=1, keepdims=True), ops.var(a, 1), ops.std(a, 1, ddof=1), a.mean(1), ops.var(a, 1, ddof=1), a.mean(1))', SEQ), 'mint norms': ("(mint.norm(a, dim=-1), mint.norm(a, p=1, dim=-1), mint.norm(a, p=3, dim=-1), mint.norm(a, p=float('inf'), dim=-1), F.normalize(a, dim=-1))",
        '(ops.norm(a, dim=-1), ops.abs(a).sum(-1), (ops.abs(a)**3).sum(-1)**(1/3), ops.amax(ops.abs(a), -1), a/ops.norm(a, dim=-1, keepdim=True))', SEQ),
    'mint argmax': ('(mint.argmax(a, 1), mint.argmin(a, 1), mint.argmax(a, 1, keepdim=True), mint.cumsum(a, 1), *mint.topk(a, 2), *mint.topk(a, 2, 1, largest=False), *mint.sort(a), mint.sort(a, dim=1, descending=True)[0], mint.argsort(a))',
        '(ops.argmax(a, 1), ops.argmin(a, 1).astype(ms.int64), ops.argmax(a, 1)[:, None], ops.cumsum(a, 1), ops.topk(a, 2)[0], ops.topk(a, 2)[1].astype(ms.int64), -ops.topk(-a, 2, 1)[0], ops.topk(-a, 2, 1)[1].astype(ms.int64), ops.sort(a)[0], ops.sort(a)[1].astype(ms.int64), ops.sort(a, 1, True)[0], ops.sort(a)[1].astype(ms.int64))', SEQ),
    'mint shapes': ('(mint.stack((a, b), 1), mint.tril(a, -1), a.repeat(1, 2, 1), mint.repeat_interleave(a, 2, 1), mint.roll(a, 2, 1), ops.roll(a, (1, 2), (1, 2)), mint.index_select(a, 1, ms.Tensor([2, 0])))', '(ops.stack((a, b), 1), ops.tril(a, -1), ops.tile(a, (1, 2, 1)), ops.repeat_interleave(a, 2, 1), ms.numpy.roll(a, 2, 1), ms.numpy.roll(a, (1, 2), (1, 2)), a[:, [2, 0]])', SEQ, SEQ),
    'mint embedding': ('(F.embedding(a, W), F.one_hot(a.astype(ms.int64), 5))', '(W[a], ops.one_hot(a, 5, 1, 0).astype(ms.int64))', ('small', 3)),
    'mint pad': ("(F.pad(a, (1,2,2,1)), F.pad(a, (1,2), value=3.), F.pad(a, (1,2,2,1), mode='reflect'), F.pad(a, (1,2,2,1), mode='replicate'))", "(ops.pad(a, (1,2,2,1)), ops.pad(a, (1,2), value=3.), ops.pad(a, (1,2,2,1), mode='reflect'), ops.pad(a, (1,2,2,1), mode='replicate'))", IMG),
    'mint pad 1d': ("(F.pad(a, (1,2), mode='reflect'), F.pad(a, (1,2), mode='replicate'))", "(ops.pad(a, (1,2), mode='reflect'), ops.pad(a, (1,2), mode='replicate'))", SEQ), 'mint pad 3d': ("(F.pad(a, (1,)*6, mode='reflect'), F.pad(a, (1,)*6, mode='replicate'))", "(np.pad(a, P3, 'reflect'), np.pad(a, P3, 'edge'))", (1, 3, 4, 5)),
    'mint bicubic': ("F.interpolate(a, size=(11,9), mode='bicubic', align_corners=True)", "ops.interpolate(a, size=(11,9), mode='bicubic', align_corners=True)", IMG),
    'mint resize': ("(F.interpolate(a, size=(11,9), mode='bilinear'), F.interpolate(a, size=(11,9), mode='bilinear', align_corners=True), F.interpolate(a[:, 0], size=9, mode='linear'), F.interpolate(a[:, 0], size=9, mode='nearest'))",
        "(ops.interpolate(a, size=(11,9), mode='bilinear'), ops.interpolate(a, size=(11,9), mode='bilinear', align_corners=True), ops.interpolate(a[:, 0], size=9, mode='linear'), ops.interpolate(a[:, 0], size=9, mode='nearest'))", IMG),
    'mint pooling': ('(F.max_pool2d(a, 2), F.max_pool2d(a, 3, 2, 1), F.avg_pool2d(a, 3, 2, 1), F.avg_pool2d(a, 3, 2, 1, count_include_pad=False), F.avg_pool2d(a, 2, divisor_override=3), F.avg_pool1d(a[:, 0], 2), F.adaptive_avg_pool1d(a[:, 0], 4), F.adaptive_max_pool1d(a[:, 0], 4), F.adaptive_max_pool1d(a[:, 0], 3), F.avg_pool3d(a[:, None], 2), F.adaptive_avg_pool2d(a, (2, 4)))',
        '(ops.max_pool2d(a, 2), ops.max_pool2d(a, 3, 2, 1), ops.avg_pool2d(a, 3, 2, 1), ops.avg_pool2d(a, 3, 2, 1, count_include_pad=False), ops.avg_pool2d(a, 2, 2)*4/3, ops.avg_pool1d(a[:, 0], 2, 2), ops.adaptive_avg_pool2d(a[:, :1], (6, 4))[:, 0], ops.adaptive_max_pool2d(a[:, :1], (6, 4))[:, 0], ops.adaptive_max_pool2d(a[:, :1], (6, 3))[:, 0], ops.avg_pool3d(a[:, None], 2, 2), ops.adaptive_avg_pool2d(a, (2, 4)))', IMG),
    'mint bits': ('(mint.bitwise_and(a, b), mint.bitwise_or(a, b), mint.bitwise_xor(a, b), mint.bitwise_and(a, 3), mint.bitwise_or(a, 3), mint.bitwise_xor(a, 3), mint.bitwise_not(a))', '(a&b, a|b, a^b, a&3, a|3, a^3, -a-1)', ('int', 6), ('int', 6)),
    'mint scatter': ('mint.scatter_add(a, 1, b.astype(ms.int64), a[:, :2])', 'ops.tensor_scatter_elements(a, b, a[:, :2], 1, "add")', SEQ, ('int', 2, 6)),
    'as they are': ('(G.AddScalar()(a, 1.5, 2), G.EqualExt()(a, a), G.DivMods()(a, .5, "floor"), G.Divs()(a, 2.), ops.RealDiv()(a, b), ops.ReduceProd()(a, 1), G.ExpandAs()(a[:, :1], a), G.FillTensor()((6,), ms.Tensor(2.), None)+a, ops.Identity()(a), a.swapaxes(1, 2).contiguous()*2)',
        "(a+3, a==a, ops.floor_div(a, .5), a/2, a/b, ops.prod(a, 1), ops.tile(a[:, :1], (1, 5, 1)), a+2, a, a.swapaxes(1, 2)*2)", SEQ, ('pos', 5, 6)),
    'pieces as they are': ("(G.Chunk()(a, 2, 1)[1], G.SplitTensor()(a, 2, 1)[1], G.SplitWithSize()(a, (2, 3), 1)[1], G.Narrow()(a, 1, 1, 3), G.SliceExt()(a, 1, 1, 4, 1), F.relu(a*1, inplace=True))", "(a[:, 3:], a[:, 2:4], a[:, 2:], a[:, 1:4], a[:, 1:4], ops.relu(a))", SEQ),
    'images as they are': ("(G.ConvolutionStr()(a, K, None, (1,1), 'same', (1,1), False, (0,0), 1), *F.max_pool2d(a, 2, return_indices=True))", "(ops.conv2d(a, K, pad_mode='same'), *ops.max_pool2d(a, 2, 2, return_indices=True))", IMG),
    'mint patches': ('(F.unfold(a, 2, stride=2), F.unfold(a, (3,2), padding=1))', '(ops.unfold(a, 2, 1, 0, 2), ops.unfold(a, (3,2), 1, 1, 1))', IMG), 'mint patches added': ('F.fold(a, (4,4), 2, stride=2)', 'ops.fold(a, ms.Tensor([4,4], ms.int32), [2,2], [1,1], [0,0], [2,2])', (8, 4)),
}
# the same for Cells, with the same parameters
TWINS = {
    'mint conv': ('mint.nn.Conv2d(4,8,3,2,padding=1)', "nn.Conv2d(4,8,3,2,pad_mode='pad',padding=1,has_bias=True)", IMG),
    'mint conv grouped': ('mint.nn.Conv2d(4,8,3,groups=2)', "nn.Conv2d(4,8,3,group=2,pad_mode='valid',has_bias=True)", IMG),
    'mint conv same': ("mint.nn.Conv2d(4,8,3,padding='same')", 'nn.Conv2d(4,8,3,has_bias=True)', IMG),
    'mint conv 1d': ('mint.nn.Conv1d(5,4,3,padding=1)', "nn.Conv1d(5,4,3,pad_mode='pad',padding=1,has_bias=True)", SEQ),
    'mint conv transpose': ('mint.nn.ConvTranspose2d(4,3,2,2)', "nn.Conv2dTranspose(4,3,2,2,pad_mode='valid',has_bias=True)", IMG),
    'mint layer norm': ('mint.nn.LayerNorm((6,))', 'nn.LayerNorm((6,),epsilon=1e-5)', SEQ),
    'mint batch norm': ('mint.nn.BatchNorm2d(4)', 'nn.BatchNorm2d(4)', IMG),
    'mint batch norm 1d': ('mint.nn.BatchNorm1d(6)', 'nn.BatchNorm1d(6)', VEC),
    'mint embedding cell': ('mint.nn.Embedding(5,4)', 'nn.Embedding(5,4)', ('int', 3)),
}

SHARED = dict(W=np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32), K=np.random.default_rng(1).normal(size=(3, 4, 3, 3)).astype(np.float32), I=np.array([[0]], np.int32))  # constants in the expressions

def draw(shape, rows, seed=0):
    rng = np.random.default_rng(seed)
    kind, shape = (shape[0], shape[1:]) if isinstance(shape[0], str) else ('', shape)
    if kind in ('int', 'small'): return rng.integers(0, 5 if kind == 'int' else 3, (rows, *shape)).astype(np.int32)
    a = rng.normal(size=(rows, *shape)).astype(np.float32)
    return np.abs(a)+np.float32(.1) if kind == 'pos' else a


FUNCTIONS = '''
def in_place(a, b):
    c = a*2
    c += b
    c -= 1.
    c *= b
    c *= 3
    c /= b+9
    c /= 2.
    c = c.reshape((-1, 6, 1))
    c -= b[:, :, None]
    c += 1
    return c[:, :, 0]+a
def assigned(a):
    b = a*2
    b[:, 0] = 1.
    b[:, 1:3, ::2] = a[:, 1:3, ::2]
    return b
'''


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    "MindSpore compiles `construct` from its source file, so the expressions are written into one."
    f = tmp_path_factory.mktemp('ops')/'ops_under_test.py'
    src = ['import numpy as np', 'import mindspore as ms', 'from mindspore import mint, nn, ops', 'from mindspore.ops import auto_generate as G', 'F = mint.nn.functional', FUNCTIONS, *[f'{k} = ms.Tensor(np.array({v.tolist()}, np.{v.dtype}))' for k, v in SHARED.items()]]
    for k, (name, (expr, *more)) in enumerate({**EXPRESSIONS, **EQUIVALENT}.items()):
        src += [f'class C{k}(nn.Cell):', f'    def construct(self, {", ".join("abc"[:len(more)-(name in EQUIVALENT)])}): return {expr}', f'C{k}.title = {name!r}']
    f.write_text('\n'.join(src))
    sys.path.insert(0, str(f.parent))
    yield {c.title: c for c in vars(importlib.import_module(f.stem)).values() if isinstance(c, type) and issubclass(c, nn.Cell)}
    sys.path.remove(str(f.parent))


def uneven(net):
    "Parameters as training would leave them; ones and zeros would hide a swapped gamma and beta."
    rng = np.random.default_rng(7)
    for p in net.get_parameters(): p.set_data(ms.Tensor((rng.uniform(.2, 1, p.shape)*(1 if 'var' in p.name else rng.choice([-1, 1], p.shape))).astype(np.float32)))
    return net.set_train(False)


SEEN, RAN = set(), set()  # operators that were written, and cases that passed


def flat(o): return [i for v in o for i in flat(v)] if isinstance(o, (tuple, list)) else [o]


def check(name, net, shapes, reference=None, tol=(2e-3, 2e-5)):
    params = {p.name: p.asnumpy() for p in net.get_parameters()}
    xs = tuple(ms.Tensor(draw(s, B)) for s in shapes)
    g = read_graph(net, xs); o = to_onnx(g, params, read_at_batch(net, xs, b=B+1))
    assert o.dynamic and not [n for n in o.notes if 'fixed' in n]
    s = session(o.bytes())
    for rows in (B, 5, 1):
        a = [draw(k, rows, 1) for k in shapes]
        want, got = flat((reference or net)(*map(ms.Tensor, a))), s.run(None, dict(zip([i.name for i in s.get_inputs()], a)))
        assert len(got) == len(want)
        for k, (g_, w) in enumerate(zip(got, want)):
            w = w.asnumpy() if isinstance(w, ms.Tensor) else w
            assert g_.shape == w.shape and g_.dtype == w.dtype, f'output {k}'
            np.testing.assert_allclose(g_, w, rtol=tol[0], atol=tol[1], err_msg=f'output {k}')
    alive = _alive(g); SEEN.update(n.own for n in g.nodes if n.id in alive); RAN.add(name)


@pytest.mark.parametrize('name', EXPRESSIONS)
def test_expression(name, cells): check(name, cells[name]().set_train(False), EXPRESSIONS[name][1:], tol=LOOSE.get(name, (2e-3, 2e-5)))


@pytest.mark.parametrize('name', CELLS)
def test_cell(name): check(name, uneven(eval(CELLS[name][0])), CELLS[name][1:])


@pytest.mark.parametrize('name', EQUIVALENT)
def test_equivalent(name, cells):
    _, same, *shapes = EQUIVALENT[name]
    wrap = (lambda x: x.asnumpy()) if 'np.pad' in same else (lambda x: x)
    names = dict(ms=ms, np=np, ops=ops, P3=((0, 0), (0, 0), *((1, 1),)*3), **{k: ms.Tensor(v) for k, v in SHARED.items()})
    check(name, cells[name]().set_train(False), shapes, lambda *xs: eval(same, {**names, **dict(zip('abc', map(wrap, xs)))}), LOOSE.get(name, (2e-3, 2e-5)))


@pytest.mark.parametrize('name', TWINS)
def test_twin(name):
    a, b, shape = TWINS[name]
    net, ref = uneven(eval(a)), uneven(eval(b))
    other = {q.name: q for q in ref.get_parameters()}
    for p in net.get_parameters():
        n = next((n for n in (p.name, {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'mean', 'running_var': 'variance'}.get(p.name), 'embedding_table') if n in other), None)
        if n: other[n].set_data(ms.Tensor(p.asnumpy().reshape(other[n].shape)))
    check(name, net, (shape,), ref)


UNREACHED = {}  # operators with a writer that no test reaches, and why


def test_every_writer_is_tested():
    "Collected by the tests above, so it has a say only when all of them ran."
    if RAN < {*EXPRESSIONS, *CELLS, *EQUIVALENT, *TWINS}: pytest.skip('some of the cases did not run')
    left = set(WRITERS)-SEEN
    assert left == set(UNREACHED), f'without a test: {sorted(left-set(UNREACHED))}; reached after all: {sorted(set(UNREACHED)-left)}'


def test_unsupported_names_operator_and_cell():
    class Scan(nn.Cell):
        def construct(self, x): return ops.cumprod(x, 1)
    class Two(nn.Cell):
        def __init__(self): super().__init__(); self.scan, self.head = Scan(), nn.Dense(4, 2)
        def construct(self, x): return self.head(self.scan(x)), ops.median(x)[0]
    net = Two().set_train(False)
    g = read_graph(net, (ms.Tensor(np.ones((2, 3, 4), np.float32)),))
    with pytest.raises(Unsupported) as e: to_onnx(g, {p.name: p.asnumpy() for p in net.get_parameters()})
    assert 'CumProd (scan' in e.value.what and 'Median (the network' in e.value.what and 'engine: mindspore' in e.value.remedy and e.value.exit_code == 2


def test_a_tensor_that_is_read_elsewhere_cannot_be_changed():
    class Twice(nn.Cell):
        def construct(self, x):
            y = x*2
            z = y
            y += x
            return y, z
    with pytest.raises(Unsupported, match='read elsewhere'): to_onnx(read_graph(Twice(), (ms.Tensor(draw(VEC, 2)),)), {})


def test_missing_parameter():
    net = nn.Dense(4, 2); g = read_graph(net, (ms.Tensor(np.ones((2, 4), np.float32)),))
    with pytest.raises(Exception, match="value of Parameter 'bias' is missing"): to_onnx(g, dict(weight=np.ones((2, 4))))


def test_the_batch_in_a_number_fixes_the_batch():
    class Mean(nn.Cell):
        def construct(self, x): return x/x.shape[0]
    net = Mean(); x = (ms.Tensor(np.ones((2, 4), np.float32)),)
    o = to_onnx(read_graph(net, x), {}, read_at_batch(net, x, b=3))
    assert not o.dynamic and 'fixed batch of 2' in o.notes[0]
    assert session(o.bytes()).run(None, {o.inputs[0].name: np.ones((2, 4), np.float32)})[0].max() == .5


def test_inputs_by_keyword():
    class Named(nn.Cell):
        def __init__(self): super().__init__(); self.fc = nn.Dense(4, 2)
        def construct(self, image, scale): return self.fc(image)*scale
    net = Named().set_train(False); xs = (ms.Tensor(draw((4,), 2)), ms.Tensor(draw((2,), 2)))
    names = ('scale', 'image'); o = to_onnx(read_graph(net, xs[::-1], names), {p.name: p.asnumpy() for p in net.get_parameters()}, read_at_batch(net, xs[::-1], names))
    assert [i.name for i in o.inputs] == list(names) and o.dynamic
    image, scale = draw((4,), 40, 3), draw((2,), 40, 4)
    got = session(o.bytes()).run(None, dict(image=image, scale=scale))[0]
    np.testing.assert_allclose(got, net(ms.Tensor(image), ms.Tensor(scale)).asnumpy(), rtol=1e-4, atol=1e-5)
