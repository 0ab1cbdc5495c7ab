"The readers of benchmarks/real: packages, weights, and what becomes of speech and texts. Nothing is fetched."
import io, struct, sys, tarfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks/real'))
import fetch, speech, weights


def ar(members):
    head = lambda name, n: f'{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{n:<10}`\n'.encode()
    return b'!<arch>\n'+b''.join(head(k, len(v))+v+b'\n'*(len(v)%2) for k, v in members.items())

def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:xz') as t:
        for name, content in members.items():
            m = tarfile.TarInfo(name); m.size = len(content); t.addfile(m, io.BytesIO(content))
        link = tarfile.TarInfo('./usr/link.wav'); link.type = tarfile.SYMTYPE; link.linkname = '/etc/passwd'; t.addfile(link)
    return out.getvalue()

def test_a_debian_package_gives_its_files_and_nothing_outside(tmp_path):
    package = tmp_path/'x.deb'; inside = tar({'./usr/a.wav': b'sound', './usr/b.txt': b'text', './../../evil.wav': b'out'})
    package.write_bytes(ar({'debian-binary': b'2.0', 'control.tar.xz': b'odd', 'data.tar.xz': inside}))
    fetch._unpack(package, r'.*\.wav', tmp_path/'out')
    assert [(f.name, f.read_bytes()) for f in tmp_path.rglob('*') if f.is_file() and f != package] == [('a.wav', b'sound')]

def test_what_is_no_debian_package_is_refused():
    with pytest.raises(ValueError, match='no ar archive'): fetch._ar(b'PK', 'data.tar')
    with pytest.raises(ValueError, match='without data.tar'): fetch._ar(ar({'debian-binary': b'2.0'}), 'data.tar')

def test_without_apt_a_debian_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(fetch.Missing, match='there is no apt-get'): fetch._download('pocketsphinx-testdata', '1', '', tmp_path)

def test_ctranslate2_variables_and_aliases():
    text = lambda s: struct.pack('<H', len(s)+1)+s.encode()+b'\0'
    a, b = np.arange(6, dtype=np.float16).reshape(2, 3), np.int8(3)
    data = struct.pack('<I', 6)+text('Spec')+struct.pack('<II', 3, 2)
    data += text('x/weight')+struct.pack('<BIIBI', 2, 2, 3, 4, a.nbytes)+a.tobytes()+text('heads')+struct.pack('<BBI', 0, 1, 1)+b.tobytes()+struct.pack('<I', 1)+text('tied')+text('x/weight')
    got = weights.read_ct2(data)
    assert set(got) == {'x/weight', 'heads', 'tied'} and got['tied'] is got['x/weight'] and got['heads'] == 3
    assert got['x/weight'].dtype == np.float16 and (got['x/weight'] == a).all()
    with pytest.raises(ValueError, match='version 6'): weights.read_ct2(struct.pack('<I', 5)+data[4:])

def test_mel_filters_are_slaneys():
    m = speech.mel_filters()
    assert m.shape == (80, 201) and abs(m[0, 1]-.02486259).max() < 1e-7 and abs(m.sum()*RATE_STEP-80) < 3 # the paper's own table begins with 0.02486259

RATE_STEP = speech.RATE/400 # hertz between two frequencies: each triangle has an area of 1

def test_a_tone_is_loudest_where_it_belongs():
    x = speech.features(.5*np.sin(2*np.pi*1000*np.arange(speech.RATE)/speech.RATE))
    assert x.shape == (1, 80, 3000) and x.dtype == np.float32
    assert speech.mel_filters()[x[0, :, 50].argmax()].argmax()*RATE_STEP == 1000
    assert x.max()-x.min() == pytest.approx(2) and (x[0, :, 200:] == x.min()).all() # 8 decades, and silence at their end

def test_words_and_what_is_wrong_in_them():
    assert speech.words('Go forward 10 meters, Mr. Dashwood: 42!') == 'go forward ten meters mister dashwood forty two'.split()
    assert [speech.wrong(list('kitten'), list(o)) for o in ('kitten', 'sitting', '')] == [0, 3, 6]
    assert speech.wrong([], list('ab')) == 2
