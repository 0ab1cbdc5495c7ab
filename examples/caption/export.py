"""Write the encoder and one step of the decoder by themselves, as ONNX and MINDIR; the cache is an input and an output of the step.

    python export.py tasks/quant_caption                  # what the task has chosen -> tasks/quant_caption/parts
    python export.py tasks/quant_caption --out parts --float tasks/float

`quantnb run` writes the whole search for a caption as one graph, since that is what the evaluation calls. A part of the network
that is called by itself gets files of its own, so here the search is called over encoder and decoder.
"""
import argparse, json
from pathlib import Path

import mindspore as ms  # before onnx

from quantnb.all import Exporter, Strategy, Task, open_engine
from src.scripts.pretrain_three_caption_endtoend_eval import EXAMPLE


def open_parts(yml=EXAMPLE/'opt_caption_ms_quant.yml'):
    "Calibrated engine and writer of files, with entries for encoder and decoder."
    task = Task.from_yaml(yml, engine='onnxruntime')
    engine = open_engine(task)
    engine.net(None).search(*task.inputs)
    return task, engine, Exporter(task, engine)


def write_parts(exporter, strategy, folder, mindir=True): # -> {file name: bytes}; None is the float network
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {k: m for k, m in exporter.deployed.files(strategy).items() if k != 'model.onnx'}
    if mindir: files |= exporter.deployed.mindirs(strategy)
    for k, m in files.items(): (folder/k).write_bytes(m)
    return {k: len(m) for k, m in files.items()}


def chosen(task_dir): return Strategy.from_json(json.loads((Path(task_dir)/'output'/'best.json').read_text())['strategy'])


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('task', type=Path, help='folder of a finished task')
    p.add_argument('--out', type=Path, help='folder for the files; parts in the folder of the task')
    p.add_argument('--float', type=Path, help='folder for the float files, for comparison')
    args = p.parse_args()
    _, _, exporter = open_parts()
    for strategy, folder in ((chosen(args.task), args.out or args.task/'parts'), *[(None, args.float)]*bool(args.float)):
        for k, n in write_parts(exporter, strategy, folder).items(): print(f'{n:10,} {folder/k}')
