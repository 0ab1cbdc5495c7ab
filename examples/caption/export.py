"""Write the encoder and one step of the decoder of a task's choice, as ONNX and MINDIR; the cache is an input and an output of the step.

    python export.py tasks/quant_caption --float tasks/float   # -> tasks/quant_caption/parts, and the float files to compare with

`quantnb run` writes the same files into the task's `output/best`, since these parts are what the evaluation calls. This script is for the
float files, and for a strategy of one's own.
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
    return task, engine, Exporter(task, engine)


def write_parts(exporter, strategy, folder, mindir=True): # -> {file name: bytes}; None is the float network
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {k: m for k, m in exporter.deployed.files(strategy).items() if k != 'model.onnx'}
    if mindir: files |= exporter.deployed.mindirs(strategy)
    for k, m in files.items(): (folder/k).write_bytes(m)
    return {k: len(m) for k, m in files.items()}


def chosen(task_dir):
    file = Path(task_dir)/'output'/'best.json'
    if not file.is_file(): raise SystemExit(f'there is no {file}: name the folder of a task that has chosen, such as tasks/quant_caption')
    return Strategy.from_json(json.loads(file.read_text())['strategy'])


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('task', type=Path, help='folder of a finished task')
    p.add_argument('--out', type=Path, help='folder for the files; parts in the folder of the task')
    p.add_argument('--float', type=Path, help='folder for the float files, for comparison')
    args = p.parse_args()
    best = chosen(args.task)
    _, _, exporter = open_parts()
    for strategy, folder in ((best, args.out or args.task/'parts'), *[(None, args.float)]*bool(args.float)):
        for k, n in write_parts(exporter, strategy, folder).items(): print(f'{n:10,} {folder/k}')
