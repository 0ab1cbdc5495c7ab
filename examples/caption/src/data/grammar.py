"""Captions of scenes by a small grammar, in Chinese and English, and the pieces they are made of.

A scene is a mapping of cell to kind: cells 0 to 3 are top left, top right, bottom left, bottom right; kinds 0 to 9 are
Fashion-MNIST's. Five captions each language describe it, five ways of saying it by kinds, counts and places.
"""
LANGUAGES = ('zh', 'en')
KINDS = (('T恤', '件', 'T-shirt', 'T-shirts'), ('裤子', '条', 'pair of trousers', 'pairs of trousers'),
         ('套头衫', '件', 'pullover', 'pullovers'), ('连衣裙', '条', 'dress', 'dresses'), ('外套', '件', 'coat', 'coats'),
         ('凉鞋', '只', 'sandal', 'sandals'), ('衬衫', '件', 'shirt', 'shirts'), ('运动鞋', '只', 'sneaker', 'sneakers'),
         ('包', '个', 'bag', 'bags'), ('短靴', '只', 'ankle boot', 'ankle boots'))
COUNTS = dict(zh=('一', '两', '三', '四'), en=('a', 'two', 'three', 'four'))
PLACES = {(0,): ('左上角', 'at the top left'), (1,): ('右上角', 'at the top right'), (2,): ('左下角', 'at the bottom left'),
          (3,): ('右下角', 'at the bottom right'), (0, 1): ('上面', 'at the top'), (2, 3): ('下面', 'at the bottom'),
          (0, 2): ('左边', 'on the left'), (1, 3): ('右边', 'on the right'), (0, 3): ('对角', 'in opposite corners'),
          (1, 2): ('对角', 'in opposite corners')}
MANY = {3: ('三个角', 'in three corners'), 4: ('四个角', 'in all corners')}
END, ENGLISH = 0, 1  # ids: a caption ends with 0; a Chinese one starts with 0, an English one with 1
MAX_LENGTH = 20  # pieces of the longest caption, its end included


def groups(scene, cells=range(4)):
    "`[(kind, cells of it)]` among `cells`, in reading order."
    res = {}
    for c in sorted(scene):
        if c in cells: res.setdefault(scene[c], []).append(c)
    return list(res.items())


def _place(cells, lang): return (MANY.get(len(cells)) or PLACES[tuple(cells)])[LANGUAGES.index(lang)]


def _many(kind, n, lang):
    "Pieces of 'n of a kind': ['两件', '衬衫'], ['two', 'shirts']."
    zh, measure, one, more = KINDS[kind]
    if lang == 'zh': return [COUNTS['zh'][n-1] + measure, zh]
    return ['an' if n == 1 and one[0] in 'aeiou' else COUNTS['en'][n-1], one if n == 1 else more]


def _join(parts, comma, last=None):
    "Lists of pieces with `comma` between them, `last` before the last one."
    res = list(parts[0])
    for k, p in enumerate(parts[1:], 2): res += [last if last and k == len(parts) else comma, *p]
    return res


def _list(gs, lang): return _join([_many(k, len(c), lang) for k, c in gs], *(('、', '和') if lang == 'zh' else (',', 'and')))


def captions(scene, # {cell: kind}
             lang): # 'zh' or 'en'
    "Five captions as lists of pieces: by place; by thing; kinds alone; with the total; by row."
    gs, zh = groups(scene), lang == 'zh'
    rows = [(_place(c, lang), groups(scene, c)) for c in ((0, 1), (2, 3))]
    total, comma = len(scene), '，' if zh else ','
    if zh:
        place = [[_place(c, lang), '有', *_many(k, len(c), lang)] for k, c in gs]
        thing = [[*_many(k, len(c), lang), '在', _place(c, lang)] for k, c in gs]
        kinds, count = ['图中有'], [COUNTS['zh'][total-1] + '件', '物品', '：']
        by_row = [[p, '是', *_list(g, lang)] for p, g in rows if g]
    else:
        place = [[*_many(k, len(c), lang), _place(c, lang)] for k, c in gs]
        thing = [[_place(c, lang), 'there is' if len(c) == 1 else 'there are', *_many(k, len(c), lang)] for k, c in gs]
        kinds, count = ['a picture of'], ['one' if total == 1 else COUNTS['en'][total-1], 'item' if total == 1 else 'items', ':']
        by_row = [[*_list(g, lang), p] for p, g in rows if g]
    return [_join(place, comma), _join(thing, comma), kinds + _list(gs, lang), count + _list(gs, lang), _join(by_row, comma)]


def _vocabulary():
    "Every piece the grammar can say; its place in the list is its id."
    res = ['</s>', '<en>']
    for n in range(4): res += [COUNTS['zh'][n] + m for m in dict.fromkeys(k[1] for k in KINDS)]
    res += [k[0] for k in KINDS] + [p for p, _ in (*PLACES.values(), *MANY.values())] + ['有', '在', '图中有', '物品', '：', '是', '，', '、', '和']
    res += [*COUNTS['en'], 'an', 'one'] + [w for k in KINDS for w in k[2:]] + [p for _, p in (*PLACES.values(), *MANY.values())]
    return list(dict.fromkeys(res + ['there is', 'there are', 'a picture of', 'item', 'items', ':', ',', 'and']))


VOCABULARY = _vocabulary()
_ids = {p: i for i, p in enumerate(VOCABULARY)}


def start(lang): return ENGLISH if lang == 'en' else END


def encode(pieces): # -> ids without start, with end
    "Ids of a caption's pieces."
    return [_ids[p] for p in pieces] + [END]


def decode(ids, # of one caption, without its start
           lang):
    "Text of a caption, up to its end."
    res = []
    for i in ids:
        if i == END: break
        res.append(VOCABULARY[int(i)])
    return ('' if lang == 'zh' else ' ').join(res)
