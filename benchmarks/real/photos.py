"""Crops of the photographs that packages carry: calibration, search and test show different photographs."""
import hashlib
import numpy as np
from fetch import fetch, once

SIZE = 224
PARTS = dict(  # part: number of crops, photographs
    calib=(96, [('scikit-image', 'skimage/data/astronaut.png'), ('scikit-image', 'skimage/data/motorcycle_left.png'),
        ('scikit-learn', 'sklearn/datasets/images/china.jpg'), ('gradio', 'gradio/media_assets/images/cheetah.jpg'), ('imgaug', 'imgaug/quokka.jpg')]),
    search=(200, [('scikit-image', 'skimage/data/chelsea.png'), ('scikit-learn', 'sklearn/datasets/images/flower.jpg'),
        ('ultralytics', 'ultralytics/assets/bus.jpg'), ('gradio', 'gradio/media_assets/images/lion.jpg'), ('gradio', 'gradio/media_assets/images/tower.jpg')]),
    test=(200, [('scikit-image', 'skimage/data/coffee.png'), ('scikit-image', 'skimage/data/rocket.jpg'),
        ('ultralytics', 'ultralytics/assets/zidane.jpg'), ('gradio', 'gradio/test_data/cheetah2.jpg')]))


def photo(package, path):
    "A photograph as an RGB image."
    from PIL import Image
    return Image.open(fetch(package)/path).convert('RGB')


def crop(image, rng):
    "A random square of half to all of the shorter side, flipped half of the time, SIZE pixels wide, uint8 [SIZE,SIZE,3]."
    from PIL import Image
    w, h = image.size
    side = int(min(w, h)*rng.uniform(.5, 1)); x, y = int(rng.integers(w-side+1)), int(rng.integers(h-side+1))
    a = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (x, y, x+side, y+side)))
    return a[:, ::-1] if rng.random() < .5 else a


def crops(part): # 'calib', 'search' or 'test'
    "Crops of one part, uint8 [N,SIZE,SIZE,3], photographs in turn; made once, then read from the cache."
    n, names = PARTS[part]
    def make():
        rng = np.random.default_rng(list(PARTS).index(part)); images = [photo(*o) for o in names]
        return np.stack([crop(images[i%len(images)], rng) for i in range(n)])
    return once(f'crops-{part}-{hashlib.sha256(repr((n, names, SIZE)).encode()).hexdigest()[:8]}', make)


def normalise(x, mean, std): # uint8 [N,H,W,3]; mean and std of pixels 0..255, one for all or one a channel
    "Float32 [N,3,H,W] as a network wants it."
    return np.ascontiguousarray(((x.astype(np.float32)-np.float32(mean))/np.float32(std)).transpose(0, 3, 1, 2))
