"""CIDEr, Bleu and ROUGE-L by pycocoevalcap's own scorers, on our own tokens; nothing of it needs Java."""
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge


def tokens(text, lang):
    "Characters of a Chinese caption, words of an English one, with spaces between them as the scorers want it."
    return ' '.join(text.replace(' ', '') if lang == 'zh' else text.lower().split())


def caption_metrics(predictions, # {image id: caption}
                    references,  # {image id: [captions]}
                    lang):
    "`{CIDEr, Bleu_1, Bleu_2, Bleu_3, Bleu_4, ROUGE_L}`; CIDEr from 0 to 10, the others from 0 to 1."
    res = {k: [tokens(v, lang)] for k, v in predictions.items()}
    gts = {k: [tokens(o, lang) for o in references[k]] for k in predictions}
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    return dict(CIDEr=float(Cider().compute_score(gts, res)[0]), **{f'Bleu_{n}': float(b) for n, b in enumerate(bleu, 1)},
                ROUGE_L=float(Rouge().compute_score(gts, res)[0]))
