"""The small words of the embedded corpus: adjectives, determiners, pronouns, adverbials."""

from __future__ import annotations

from chts_hf.translation.embedded.words import Adjective, Adverb, Determiner, Pronoun

# Feelings one can have because of something: the adjectives of "... is happy because ...".
MOODS = (
    Adjective("happy", "glücklich", "person", passing=True),
    Adjective("sad", "traurig", "person", passing=True),
    Adjective("angry", "wütend", "person", passing=True),
    Adjective("proud", "stolz", "person", passing=True),
)

ADJECTIVES = (
    *MOODS,
    Adjective("old", "alt", "adult animal goods portable openable building text"),
    Adjective("young", "jung", "person animal"),
    Adjective("tall", "groß", "adult"),
    Adjective("small", "klein", "playful animal goods openable building place room fruit"),
    Adjective("big", "groß", "animal goods openable building place room fruit"),
    Adjective("new", "neu", "goods openable building text"),
    Adjective("tired", "müde", "person animal", stem="müd", passing=True),
    Adjective("hungry", "hungrig", "person animal", passing=True),
    Adjective("clever", "klug", "person pet"),
    Adjective("friendly", "freundlich", "person pet"),
    Adjective("lazy", "faul", "person animal"),
    Adjective("rich", "reich", "adult"),
    Adjective("poor", "arm", "adult"),
    Adjective("famous", "berühmt", "adult"),
    Adjective("brave", "mutig", "person"),
    Adjective("strong", "stark", "adult farm"),
    Adjective("beautiful", "schön", "goods building clothing text place"),
    Adjective("expensive", "teuer", "goods", stem="teur", passing=True),
    Adjective("cheap", "billig", "goods", passing=True),
    Adjective("broken", "kaputt", "repairable", passing=True),
    Adjective("dirty", "schmutzig", "clothing container cleanable vehicle", passing=True),
    Adjective("empty", "leer", "container", passing=True),
    Adjective("heavy", "schwer", "container surface"),
    Adjective("red", "rot", "colored"),
    Adjective("blue", "blau", "colored"),
    Adjective("green", "grün", "colored"),
    Adjective("black", "schwarz", "colored animal"),
    Adjective("white", "weiß", "colored animal"),
    Adjective("brown", "braun", "colored farm pet"),
    Adjective("sweet", "süß", "fruit baked"),
    Adjective("fresh", "frisch", "food"),
    Adjective("hot", "heiß", "dish", passing=True),
    Adjective("cold", "kalt", "dish room", passing=True),
    Adjective("dark", "dunkel", "room", stem="dunkl"),
    Adjective("quiet", "ruhig", "place"),
    Adjective("long", "lang", "text"),
    Adjective("short", "kurz", "text"),
)

NUMERALS = tuple(
    Determiner(en, de, "none")
    for en, de in (
        ("two", "zwei"),
        ("three", "drei"),
        ("four", "vier"),
        ("five", "fünf"),
        ("six", "sechs"),
        ("seven", "sieben"),
        ("eight", "acht"),
        ("nine", "neun"),
        ("ten", "zehn"),
        ("eleven", "elf"),
        ("twelve", "zwölf"),
    )
)

THE = Determiner("the", "", "definite")
A = Determiner("a", "ein", "ein")
MY = Determiner("my", "mein", "ein")
OUR = Determiner("our", "unser", "ein")
BARE = Determiner("", "", "none")
# The verb's "does not" and the noun's "a" or "any" are one German word.
NO = Determiner("a", "kein", "ein")
NO_PLURAL = Determiner("any", "kein", "ein")
WHICH = Determiner("which", "welch", "der", asks=True)
HOW_MANY = Determiner("how many", "wie viele", "none", asks=True)

# Forms of a noun phrase: its possible determiners and whether it is plural.
FORMS: dict[str, tuple[tuple[Determiner, ...], bool]] = {
    "the": ((THE,), False),
    "a": ((A,), False),
    "my": ((MY, OUR), False),
    "no": ((NO,), False),
    "which": ((WHICH,), False),
    "the-plural": ((THE,), True),
    "my-plural": ((MY, OUR), True),
    "bare-plural": ((BARE,), True),
    "no-plural": ((NO_PLURAL,), True),
    "which-plural": ((WHICH,), True),
    "number": (NUMERALS, True),
    "how-many": ((HOW_MANY,), True),
}

# Forms of a pronoun; those but the last two are used as subjects only.
PRONOUNS: dict[str, tuple[Pronoun, ...]] = {
    "he": (Pronoun("he", nom="er"), Pronoun("she", nom="sie")),
    "they": (Pronoun("they", nom="sie", plural=True), Pronoun("we", nom="wir", plural=True)),
    "who": (Pronoun("who", nom="wer", acc="wen", dat="wem", asks=True),),
    "what": (Pronoun("what", nom="was", acc="was", asks=True),),
}

# Adverbials by the tense they go with; a modal's infinitive looks ahead like the future.
_AHEAD = (
    Adverb("today", "heute"),
    Adverb("tomorrow", "morgen"),
    Adverb("tonight", "heute Abend"),
    Adverb("soon", "bald"),
    Adverb("next week", "nächste Woche"),
)
ADVERBS: dict[str, tuple[Adverb, ...]] = {
    "habit": (
        Adverb("every day", "jeden Tag"),
        Adverb("every morning", "jeden Morgen"),
        Adverb("in the evening", "abends"),
        Adverb("on Sundays", "sonntags"),
    ),
    "past": (
        Adverb("yesterday", "gestern"),
        Adverb("this morning", "heute Morgen"),
        Adverb("last week", "letzte Woche"),
        Adverb("two days ago", "vor zwei Tagen"),
        Adverb("three weeks ago", "vor drei Wochen"),
    ),
    "future": _AHEAD,
    "modal": _AHEAD,
}
INTERROGATIVES: dict[str, Adverb] = {
    "why": Adverb("why", "warum", asks=True),
    "when": Adverb("when", "wann", asks=True),
    "where": Adverb("where", "wo", asks=True),
}

# Prepositions of place for things, all with the dative: English and German.
POSITIONS = (("on", "auf"), ("under", "unter"), ("behind", "hinter"), ("next to", "neben"))
