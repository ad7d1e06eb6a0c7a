"""The nouns of the embedded corpus: simple ones, and the compounds and places made of them."""

from __future__ import annotations

from chts_hf.translation.embedded.words import Location, Noun, compound

_PEOPLE = (
    Noun("man", "men", "Mann", "Männer", "m", "person adult", "never"),
    Noun("woman", "women", "Frau", "Frauen", "f", "person adult", "never"),
    Noun("child", "children", "Kind", "Kinder", "n", "person playful", "never"),
    Noun("girl", "girls", "Mädchen", "Mädchen", "n", "person playful", "never"),
    Noun("doctor", "doctors", "Arzt", "Ärzte", "m", "person adult", "never"),
    Noun("teacher", "teachers", "Lehrer", "Lehrer", "m", "person adult", "never"),
    Noun("baker", "bakers", "Bäcker", "Bäcker", "m", "person adult", "never"),
    Noun("painter", "painters", "Maler", "Maler", "m", "person adult", "never"),
    Noun("gardener", "gardeners", "Gärtner", "Gärtner", "m", "person adult", "never"),
    Noun("hunter", "hunters", "Jäger", "Jäger", "m", "person adult", "never"),
    Noun("judge", "judges", "Richter", "Richter", "m", "person adult", "never"),
    Noun("guest", "guests", "Gast", "Gäste", "m", "person adult", "never"),
    Noun("king", "kings", "König", "Könige", "m", "person adult", "never"),
    Noun("thief", "thieves", "Dieb", "Diebe", "m", "person adult", "never"),
    Noun("queen", "queens", "Königin", "Königinnen", "f", "person adult", "never"),
    Noun("nurse", "nurses", "Krankenschwester", "Krankenschwestern", "f", "person adult", "never"),
    Noun("witch", "witches", "Hexe", "Hexen", "f", "person adult", "never"),
    Noun("waitress", "waitresses", "Kellnerin", "Kellnerinnen", "f", "person adult", "never"),
    Noun(
        "actress", "actresses", "Schauspielerin", "Schauspielerinnen", "f", "person adult", "never"
    ),
)

_FAMILY = (
    Noun("brother", "brothers", "Bruder", "Brüder", "m", "person adult", "must"),
    Noun("sister", "sisters", "Schwester", "Schwestern", "f", "person adult", "must"),
    Noun("son", "sons", "Sohn", "Söhne", "m", "person adult", "must"),
    Noun("daughter", "daughters", "Tochter", "Töchter", "f", "person adult", "must"),
    Noun("uncle", "uncles", "Onkel", "Onkel", "m", "person adult", "must"),
    Noun("aunt", "aunts", "Tante", "Tanten", "f", "person adult", "must"),
)

_ANIMALS = (
    Noun("dog", "dogs", "Hund", "Hunde", "m", "animal pet playful"),
    Noun("cat", "cats", "Katze", "Katzen", "f", "animal pet playful"),
    Noun("horse", "horses", "Pferd", "Pferde", "n", "animal farm"),
    Noun("cow", "cows", "Kuh", "Kühe", "f", "animal farm"),
    Noun("pig", "pigs", "Schwein", "Schweine", "n", "animal farm"),
    Noun("donkey", "donkeys", "Esel", "Esel", "m", "animal farm"),
    Noun("duck", "ducks", "Ente", "Enten", "f", "animal prey"),
    Noun("bird", "birds", "Vogel", "Vögel", "m", "animal prey"),
    Noun("mouse", "mice", "Maus", "Mäuse", "f", "animal prey"),
)

_CAKE = Noun("cake", "cakes", "Kuchen", "Kuchen", "m", "food snack baked")
_SOUP = Noun("soup", "soups", "Suppe", "Suppen", "f", "food dish")

_FOOD = (
    _CAKE,
    _SOUP,
    Noun("apple", "apples", "Apfel", "Äpfel", "m", "food snack fruit"),
    Noun("pear", "pears", "Birne", "Birnen", "f", "food snack fruit"),
    Noun("egg", "eggs", "Ei", "Eier", "n", "food snack dish"),
    Noun("sausage", "sausages", "Wurst", "Würste", "f", "food snack dish"),
)

_TABLE = Noun("table", "tables", "Tisch", "Tische", "m", "goods surface repairable cleanable")
_CHAIR = Noun("chair", "chairs", "Stuhl", "Stühle", "m", "goods surface repairable")
_LAMP = Noun("lamp", "lamps", "Lampe", "Lampen", "f", "goods device repairable")
_CLOCK = Noun("clock", "clocks", "Uhr", "Uhren", "f", "goods repairable portable")
_MIRROR = Noun("mirror", "mirrors", "Spiegel", "Spiegel", "m", "goods fragile cleanable hanging")
_WINDOW = Noun("window", "windows", "Fenster", "Fenster", "n", "openable repairable cleanable")
_DOOR = Noun("door", "doors", "Tür", "Türen", "f", "openable repairable")
_GATE = Noun("gate", "gates", "Tor", "Tore", "n", "openable repairable")
_BAG = Noun("bag", "bags", "Tasche", "Taschen", "f", "goods portable openable container colored")
_BOTTLE = Noun("bottle", "bottles", "Flasche", "Flaschen", "f", "goods portable container fragile")
_CUP = Noun("cup", "cups", "Tasse", "Tassen", "f", "goods portable container fragile")
_PLATE = Noun("plate", "plates", "Teller", "Teller", "m", "goods portable fragile")
_SPOON = Noun("spoon", "spoons", "Löffel", "Löffel", "m", "goods portable")
_KNIFE = Noun("knife", "knives", "Messer", "Messer", "n", "goods portable")
_KEY = Noun("key", "keys", "Schlüssel", "Schlüssel", "m", "portable")
_BOOK = Noun("book", "books", "Buch", "Bücher", "n", "goods portable")
_COAT = Noun("coat", "coats", "Mantel", "Mäntel", "m", "goods portable clothing colored hanging")
_JACKET = Noun("jacket", "jackets", "Jacke", "Jacken", "f", "goods portable clothing colored")
_DRESS = Noun("dress", "dresses", "Kleid", "Kleider", "n", "goods portable clothing colored")
_SHOE = Noun("shoe", "shoes", "Schuh", "Schuhe", "m", "goods portable cleanable")
_CAR = Noun("car", "cars", "Auto", "Autos", "n", "goods vehicle repairable colored")
_LETTER = Noun("letter", "letters", "Brief", "Briefe", "m", "text portable")
_STORY = Noun("story", "stories", "Geschichte", "Geschichten", "f", "text tale")

_KITCHEN = Noun("kitchen", "kitchens", "Küche", "Küchen", "f", "room")
_ROOM = Noun("room", "rooms", "Zimmer", "Zimmer", "n", "room")
_CELLAR = Noun("cellar", "cellars", "Keller", "Keller", "m", "room")
_HOUSE = Noun("house", "houses", "Haus", "Häuser", "n", "building")
_CASTLE = Noun("castle", "castles", "Schloss", "Schlösser", "n", "building", "never")
_CHURCH = Noun("church", "churches", "Kirche", "Kirchen", "f", "building", "never")
_SCHOOL = Noun("school", "schools", "Schule", "Schulen", "f", "building", "never")
_BRIDGE = Noun("bridge", "bridges", "Brücke", "Brücken", "f", "building", "never")

_BUILT = (_KITCHEN, _ROOM, _CELLAR, _HOUSE, _CASTLE, _CHURCH, _SCHOOL, _BRIDGE)

_THINGS = (
    *(_TABLE, _CHAIR, _LAMP, _CLOCK, _MIRROR, _WINDOW, _DOOR, _GATE, _BAG, _BOTTLE, _CUP, _PLATE),
    *(_SPOON, _KNIFE, _KEY, _BOOK, _COAT, _JACKET, _DRESS, _SHOE, _CAR, _LETTER, _STORY),
    Noun("bed", "beds", "Bett", "Betten", "n", "goods surface"),
    Noun("cupboard", "cupboards", "Schrank", "Schränke", "m", "goods surface openable"),
    Noun("box", "boxes", "Kiste", "Kisten", "f", "portable openable container"),
    Noun("suitcase", "suitcases", "Koffer", "Koffer", "m", "goods portable openable container"),
    Noun("picture", "pictures", "Bild", "Bilder", "n", "goods portable hanging"),
    Noun("shirt", "shirts", "Hemd", "Hemden", "n", "goods portable clothing colored"),
    Noun("bicycle", "bicycles", "Fahrrad", "Fahrräder", "n", "goods vehicle repairable colored"),
    Noun("television", "televisions", "Fernseher", "Fernseher", "m", "goods device repairable"),
    Noun("oven", "ovens", "Ofen", "Öfen", "m", "goods device repairable"),
    Noun("poem", "poems", "Gedicht", "Gedichte", "n", "text"),
)

_COMPOUNDS = (
    compound("kitchen", "Küchen", _TABLE),
    compound("kitchen", "Küchen", _CHAIR),
    compound("kitchen", "Küchen", _CLOCK),
    compound("kitchen", "Küchen", _LAMP),
    compound("kitchen", "Küchen", _KNIFE),
    compound("kitchen", "Küchen", _WINDOW),
    compound("kitchen", "Küchen", _DOOR),
    compound("garden", "Garten", _TABLE),
    compound("garden", "Garten", _CHAIR),
    compound("garden", "Garten", _GATE),
    compound("winter", "Winter", _COAT),
    compound("winter", "Winter", _JACKET),
    compound("winter", "Winter", _SHOE),
    compound("summer", "Sommer", _DRESS),
    compound("summer", "Sommer", _JACKET),
    compound("leather", "Leder", _JACKET),
    compound("leather", "Leder", _BAG, "goods portable openable container"),
    compound("leather", "Leder", _SHOE),
    compound("silver", "Silber", _SPOON),
    compound("soup", "Suppen", _SPOON),
    compound("soup", "Suppen", _PLATE),
    compound("coffee", "Kaffee", _CUP),
    compound("wine", "Wein", _BOTTLE),
    compound("wall", "Wand", _CLOCK, "goods repairable hanging"),
    compound("wall", "Wand", _MIRROR),
    compound("pocket", "Taschen", _KNIFE),
    compound("school", "Schul", _BOOK),
    compound("school", "Schul", _BAG),
    compound("house", "Haus", _KEY),
    compound("car", "Auto", _KEY),
    compound("love", "Liebes", _LETTER),
    compound("love", "Liebes", _STORY),
    compound("apple", "Apfel", _CAKE),
    compound("cherry", "Kirsch", _CAKE),
    compound("potato", "Kartoffel", _SOUP),
    compound("tomato", "Tomaten", _SOUP),
)

NOUNS = (*_PEOPLE, *_FAMILY, *_ANIMALS, *_FOOD, *_THINGS, *_BUILT, *_COMPOUNDS)


def _enclosing(noun: Noun, setting: str) -> Location:
    return Location(noun, setting, at=("in", "in"), to=("into", "in", "acc"))


def _inside(noun: Noun) -> Location:
    return _enclosing(noun, "indoor")


def _open_air(noun: Noun) -> Location:
    return _enclosing(noun, "outdoor")


_YARD = Noun("yard", "yards", "Hof", "Höfe", "m", "place")
_LAKE = Noun("lake", "lakes", "See", "Seen", "m", "place", "never")
_STATION = Noun("station", "stations", "Bahnhof", "Bahnhöfe", "m", "building", "never")
_MARKET = Noun("market", "markets", "Markt", "Märkte", "m", "place", "never")

LOCATIONS = (
    *map(_inside, (_KITCHEN, _ROOM, _CELLAR, _HOUSE, _CASTLE, _CHURCH, _SCHOOL)),
    _inside(compound("village", "Dorf", _CHURCH)),
    _inside(compound("village", "Dorf", _SCHOOL)),
    _open_air(Noun("garden", "gardens", "Garten", "Gärten", "m", "place")),
    _open_air(Noun("barn", "barns", "Scheune", "Scheunen", "f", "building")),
    _open_air(Noun("forest", "forests", "Wald", "Wälder", "m", "place", "never")),
    _open_air(Noun("village", "villages", "Dorf", "Dörfer", "n", "place", "never")),
    Location(_YARD, "outdoor", at=("in", "auf"), to=("into", "auf", "acc")),
    Location(_LAKE, "outdoor", at=("by", "an"), to=("to", "zu", "dat")),
    Location(_STATION, "outdoor", at=("at", "an"), to=("to", "zu", "dat")),
    Location(_MARKET, "outdoor", at=("at", "auf"), to=("to", "zu", "dat")),
)
