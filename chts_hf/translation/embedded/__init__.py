"""The embedded corpus: a small grammar of English–German sentence pairs, generated on the fly.

It needs no download and shows what makes the two languages differ: agreement in gender, number and
case, verb-second and verb-final order, separable verbs, compounds, negation, questions, numbers.
"""

from chts_hf.translation.embedded.corpus import generate_corpus, unseen_sentences

__all__ = ["generate_corpus", "unseen_sentences"]
