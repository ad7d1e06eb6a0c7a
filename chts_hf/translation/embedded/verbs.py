"""The verbs of the embedded corpus, one a line, grouped by what they take.

The columns are: English base, third person, past, particle; German infinitive, third person,
participle, separable prefix; kinds of subjects; kinds of objects, the dative's first; and flags:
``ist`` for the auxiliary, the others as :class:`~chts_hf.translation.embedded.words.Verb` names
them, with ``uncontrolled`` for ``controlled=False``. An unused last column may be left out.
"""

from __future__ import annotations

from chts_hf.translation.embedded.words import Modal, Verb

_TABLES = {
    "intransitive": """
        sleep sleeps slept     | schlafen schläft geschlafen     | person animal | | placed
        wait waits waited      | warten wartet gewartet          | person pet    | | placed
        work works worked      | arbeiten arbeitet gearbeitet    | person        | | placed
        dance dances danced    | tanzen tanzt getanzt            | person        | | placed
        sing sings sang        | singen singt gesungen           | person        | | placed
        play plays played      | spielen spielt gespielt         | playful       | | placed
        laugh laughs laughed   | lachen lacht gelacht            | person
        cry cries cried        | weinen weint geweint            | person
        give gives gave up     | geben gibt gegeben auf          | person
        go goes went out       | gehen geht gegangen aus         | person        | | ist
        get gets got up        | stehen steht gestanden auf      | person pet farm | | ist
        come comes came back   | kommen kommt gekommen zurück    | person animal | | ist
        wake wakes woke up     | wachen wacht gewacht auf        | person animal \
            | | ist uncontrolled
        fall falls fell asleep | schlafen schläft geschlafen ein | person animal \
            | | ist uncontrolled
    """,
    "located": """
        sit sits sat           | sitzen sitzt gesessen           | person animal | | placed
        live lives lived       | wohnen wohnt gewohnt            | person        | | placed stative
    """,
    "directed": """
        go goes went           | gehen geht gegangen             | person        | | ist
        come comes came        | kommen kommt gekommen           | person        | | ist
        run runs ran           | rennen rennt gerannt            | person animal | | ist
    """,
    "transitive": """
        see sees saw           | sehen sieht gesehen  | person pet | person animal goods \
            | placed uncontrolled
        find finds found       | finden findet gefunden | person pet | person animal portable \
            | placed uncontrolled
        look looks looked for  | suchen sucht gesucht | person pet | person animal portable | placed
        meet meets met         | treffen trifft getroffen        | person | person   | placed
        hide hides hid         | verstecken versteckt versteckt  | person | portable | placed
        lose loses lost        | verlieren verliert verloren     | person | portable \
            | placed uncontrolled
        forget forgets forgot  | vergessen vergisst vergessen    | person | portable | uncontrolled
        hear hears heard       | hören hört gehört | person pet | person animal | uncontrolled
        visit visits visited   | besuchen besucht besucht        | person | person
        kiss kisses kissed     | küssen küsst geküsst            | person | person
        love loves loved       | lieben liebt geliebt   | person | person pet \
            | uncontrolled stative
        need needs needed      | brauchen braucht gebraucht      | person | goods portable \
            | uncontrolled stative
        buy buys bought        | kaufen kauft gekauft            | person | goods food animal
        sell sells sold        | verkaufen verkauft verkauft     | person | goods food animal
        steal steals stole     | stehlen stiehlt gestohlen       | person | goods portable animal
        carry carries carried  | tragen trägt getragen           | person | portable
        draw draws drew        | zeichnen zeichnet gezeichnet | person | person animal building
        build builds built     | bauen baut gebaut               | person | building surface
        repair repairs repaired | reparieren repariert repariert | person | repairable
        clean cleans cleaned   | putzen putzt geputzt            | person | cleanable
        wash washes washed     | waschen wäscht gewaschen   | person | clothing fruit vehicle
        break breaks broke     | zerbrechen zerbricht zerbrochen | person | fragile | uncontrolled
        write writes wrote     | schreiben schreibt geschrieben  | person | text
        translate translates translated | übersetzen übersetzt übersetzt | person | text
        bake bakes baked       | backen backt gebacken           | person | baked
        cook cooks cooked      | kochen kocht gekocht            | person | dish
        eat eats ate           | essen isst gegessen             | person | snack
        taste tastes tasted    | probieren probiert probiert     | person | food
        feed feeds fed         | füttern füttert gefüttert       | person | animal
        chase chases chased    | jagen jagt gejagt               | pet    | prey
        catch catches caught   | fangen fängt gefangen      | person pet | prey
        open opens opened      | machen macht gemacht auf        | person | openable
        close closes closed    | machen macht gemacht zu         | person | openable
        call calls called      | rufen ruft gerufen an           | person | person
        invite invites invited | laden lädt geladen ein          | person | person
        pick picks picked up   | holen holt geholt ab            | person | person
        look looks looked at   | schauen schaut geschaut an      | person \
            | person animal building hanging
        take takes took off    | ziehen zieht gezogen aus        | person | clothing
        try tries tried on     | probieren probiert probiert an  | person | clothing
        throw throws threw away | werfen wirft geworfen weg      | person | portable
        bring brings brought along | bringen bringt gebracht mit | person | portable snack
        pack packs packed      | packen packt gepackt ein        | person | portable
        hang hangs hung up     | hängen hängt gehängt auf        | person | hanging
        tidy tidies tidied up  | räumen räumt geräumt auf        | person | room
        turn turns turned on   | schalten schaltet geschaltet ein | person | device
        turn turns turned off  | schalten schaltet geschaltet aus | person | device
    """,
    "dative": """
        help helps helped      | helfen hilft geholfen           | person     | person
        thank thanks thanked   | danken dankt gedankt            | person     | person
        answer answers answered | antworten antwortet geantwortet | person    | person
        forgive forgives forgave | verzeihen verzeiht verziehen  | person     | person
        follow follows followed | folgen folgt gefolgt      | person pet | person animal | ist
        trust trusts trusted   | vertrauen vertraut vertraut     | person     | person \
            | uncontrolled stative
        listen listens listened to | hören hört gehört zu        | person     | person
        agree agrees agreed with | stimmen stimmt gestimmt zu    | person     | person
    """,
    "ditransitive": """
        give gives gave        | geben gibt gegeben              | person \
            | person, portable food animal
        show shows showed      | zeigen zeigt gezeigt            | person \
            | person, goods text animal building
        send sends sent        | schicken schickt geschickt      | person | person, goods text
        bring brings brought   | bringen bringt gebracht         | person | person, portable food
        lend lends lent        | leihen leiht geliehen           | person | person, portable vehicle
        sell sells sold        | verkaufen verkauft verkauft     | person | person, goods animal
        tell tells told        | erzählen erzählt erzählt        | person | person, tale
        promise promises promised | versprechen verspricht versprochen \
            | person | person, goods animal
    """,
    "speech": """
        say says said          | sagen sagt gesagt               | person
        know knows knew        | wissen weiß gewusst             | person
        think thinks thought   | denken denkt gedacht            | person
        believe believes believed | glauben glaubt geglaubt      | person
    """,
}


def _parse(frame: str, line: str) -> Verb:
    english, german, subject, objects, flags = (line.split("|") + ["", ""])[:5]
    base, third, past, *particle = english.split()
    infinitive, german_third, participle, *prefix = german.split()
    dative, _, accusative = objects.rpartition(",")
    if frame == "dative":
        dative, accusative = objects, ""
    marks = flags.split()
    return Verb(
        base,
        third,
        past,
        infinitive,
        german_third,
        participle,
        frame,
        subject=subject.strip(),
        accusative=accusative.strip(),
        dative=dative.strip(),
        particle=" ".join(particle),
        prefix="".join(prefix),
        auxiliary="ist" if "ist" in marks else "hat",
        placed="placed" in marks,
        controlled="uncontrolled" not in marks,
        stative="stative" in marks,
    )


VERBS = tuple(
    _parse(frame, line) for frame, table in _TABLES.items() for line in table.strip().split("\n")
)

# "to be": irregular in both languages, so grammar.py knows its forms.
BE = Verb("be", "is", "was", "sein", "ist", "gewesen", "be", "", auxiliary="ist")

WILL = Modal("will", "will", "wird", "werden")
MODALS = (
    Modal("can", "can", "kann", "können"),
    Modal("must", "must", "muss", "müssen", negatable=False),
    Modal("should", "should", "sollte", "sollten"),
    Modal("want to", "wants to", "will", "wollen", supported=True),
)
