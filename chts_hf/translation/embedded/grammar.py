"""Clauses in both languages: word order, verb forms, negation, questions.

A :class:`Clause` says who does what, when and where; the functions below write it down as English
(subject first, "do" for negation and questions) and as German, where the finite verb is the second
constituent of a statement, the first of a yes/no question and the last word of a subordinate
clause, and everything else verbal (separable prefix, participle, infinitive) closes the clause.
English simple past corresponds to the German perfect, as in speech.
"""

from __future__ import annotations

from dataclasses import dataclass

from chts_hf.translation.embedded.inflection import Nominal, NounPhrase, english, german, join
from chts_hf.translation.embedded.words import Adjective, Adverb, Case, Modal, Verb

_CONTRACTIONS = {
    ("in", "dem"): "im",
    ("in", "das"): "ins",
    ("an", "dem"): "am",
    ("zu", "dem"): "zum",
    ("zu", "der"): "zur",
}


@dataclass(frozen=True)
class Place:
    """A prepositional phrase of place; ``prepositions`` are the English and the German one."""

    phrase: NounPhrase
    prepositions: tuple[str, str]
    case: Case = "dat"


@dataclass(frozen=True)
class Clause:
    """The content of one clause. Only ``subject`` and ``verb`` are always there.

    Attributes:
        subject: who does it.
        verb: what is done; ``verbs.BE`` with ``predicate`` or ``place``.
        past: simple past in English, perfect in German; not together with ``modal``.
        modal: modal verb or future auxiliary; the verb is then an infinitive.
        dative: indirect object, or the only object of a dative verb.
        accusative: direct object.
        place: where it happens, or where to.
        predicate: adjective after "to be".
        adverb: adverbial of time, or an interrogative one, which opens its question.
        adverb_first: the statement opens with the adverbial.
        negated: negated; by "nicht" in German unless an object is "kein".
    """

    subject: Nominal
    verb: Verb
    past: bool = False
    modal: Modal | None = None
    dative: Nominal | None = None
    accusative: Nominal | None = None
    place: Place | None = None
    predicate: Adjective | None = None
    adverb: Adverb | None = None
    adverb_first: bool = False
    negated: bool = False


# --- English ---------------------------------------------------------------------------------
def _english_verbs(clause: Clause, supported: bool) -> tuple[str, str]:
    """Return the auxiliary ("" for none) and the rest of the verb.

    ``supported``: the clause needs an auxiliary, because it is negated or inverted.
    """
    verb, modal, plural = clause.verb, clause.modal, clause.subject.plural
    bare = join(verb.en, verb.particle)
    if modal and not modal.supported:
        return modal.en, bare
    if verb.en == "be" and not modal:
        present, past = ("are", "were") if plural else ("is", "was")
        return (past if clause.past else present), ""
    if supported:
        do = "did" if clause.past else "do" if plural else "does"
        return do, join(modal.en if modal else "", bare)
    if modal:
        return "", join(modal.en if plural else modal.en_third, bare)
    form = verb.en_past if clause.past else verb.en if plural else verb.en_third
    return "", join(form, verb.particle)


def _english_complements(clause: Clause) -> str:
    words = [english(one) for one in (clause.dative, clause.accusative) if one and not one.asks]
    if clause.predicate:
        words.append(clause.predicate.en)
    if clause.place:
        words += [clause.place.prepositions[0], english(clause.place.phrase)]
    if clause.adverb and not clause.adverb_first and not clause.adverb.asks:
        words.append(clause.adverb.en)
    return join(*words)


def english_statement(clause: Clause) -> str:
    """Return the clause as an English statement, which is its form as a subordinate clause too."""
    auxiliary, verbs = _english_verbs(clause, supported=clause.negated)
    if clause.negated:
        auxiliary = "cannot" if auxiliary == "can" else f"{auxiliary} not"
    front = clause.adverb.en if clause.adverb and clause.adverb_first else ""
    return join(front, english(clause.subject), auxiliary, verbs, _english_complements(clause))


def english_question(clause: Clause) -> str:
    """Return the clause as an English question for its interrogative, or a yes/no question."""
    if clause.subject.asks:
        return english_statement(clause)
    asked = [english(one) for one in (clause.accusative, clause.dative) if one and one.asks]
    if clause.adverb and clause.adverb.asks:
        asked.append(clause.adverb.en)
    auxiliary, verbs = _english_verbs(clause, supported=True)
    return join(*asked, auxiliary, english(clause.subject), verbs, _english_complements(clause))


# --- German ----------------------------------------------------------------------------------
def _german_verbs(clause: Clause) -> tuple[str, str]:
    """Return the finite verb and what closes the clause (prefix, participle or infinitive)."""
    verb, modal, plural = clause.verb, clause.modal, clause.subject.plural
    if modal:
        return (modal.de_plural if plural else modal.de), verb.prefix + verb.de
    if verb.en == "be":
        present, past = ("sind", "waren") if plural else ("ist", "war")
        return (past if clause.past else present), ""
    if clause.past:
        singular, several = ("ist", "sind") if verb.auxiliary == "ist" else ("hat", "haben")
        return (several if plural else singular), verb.prefix + verb.participle
    return (verb.de if plural else verb.de_third), verb.prefix


def _german_place(place: Place) -> str:
    preposition, phrase = place.prepositions[1], german(place.phrase, place.case)
    article, _, rest = phrase.partition(" ")
    contraction = _CONTRACTIONS.get((preposition, article))
    return join(contraction, rest) if contraction else join(preposition, phrase)


def _german_middle(clause: Clause) -> str:
    """Return what stands between the verbs: time, dative, accusative, nicht, place, predicate."""
    words = []
    if clause.adverb and not clause.adverb_first and not clause.adverb.asks:
        words.append(clause.adverb.de)
    if clause.dative and not clause.dative.asks:
        words.append(german(clause.dative, "dat"))
    if clause.accusative and not clause.accusative.asks:
        words.append(german(clause.accusative, "acc"))
    if clause.negated and not _has_negative_object(clause):
        words.append("nicht")
    if clause.place:
        words.append(_german_place(clause.place))
    if clause.predicate:
        words.append(clause.predicate.de)
    return join(*words)


def _has_negative_object(clause: Clause) -> bool:
    """Whether "kein" already negates the clause."""
    phrase = clause.accusative
    return isinstance(phrase, NounPhrase) and phrase.determiner.de == "kein"


def _inverted(clause: Clause, front: str) -> str:
    """Return the main clause with the verb before the subject, ``front`` before both."""
    finite, closing = _german_verbs(clause)
    return join(front, finite, german(clause.subject, "nom"), _german_middle(clause), closing)


def german_statement(clause: Clause, front: str = "") -> str:
    """Return the clause as a German statement: the finite verb is its second constituent.

    ``front`` is an earlier clause that takes the first place, with its comma.
    """
    if clause.adverb and clause.adverb_first:
        front = clause.adverb.de
    if front:
        return _inverted(clause, front)
    finite, closing = _german_verbs(clause)
    return join(german(clause.subject, "nom"), finite, _german_middle(clause), closing)


def german_question(clause: Clause) -> str:
    """Return the clause as a German question for its interrogative, or a yes/no question."""
    if clause.subject.asks:
        return german_statement(clause)
    front = ""
    if clause.adverb and clause.adverb.asks:
        front = clause.adverb.de
    if clause.accusative and clause.accusative.asks:
        front = german(clause.accusative, "acc")
    if clause.dative and clause.dative.asks:
        front = german(clause.dative, "dat")
    return _inverted(clause, front)


def german_subordinate(clause: Clause) -> str:
    """Return the clause as it stands after "weil", "dass" or "wenn": the finite verb is last."""
    finite, closing = _german_verbs(clause)
    # A separable prefix returns to its verb; an infinitive or participle stays a word.
    separated = closing and closing == clause.verb.prefix
    verbs = closing + finite if separated else join(closing, finite)
    return join(german(clause.subject, "nom"), _german_middle(clause), verbs)


def sentence(text: str, mark: str = ".") -> str:
    """Return the text as a sentence, with its capital letter and closing mark."""
    return text[0].upper() + text[1:] + mark
