"""Things to buy, to watch and to cook."""

from cosim.learning.embedded.domain import NAMED, Domain, Slot, literal, names, numbers, price

LAPTOP = Domain(
    name="laptop",
    label="use",
    subject=("name",),
    nouns=("laptop", "computer"),
    slots={
        "name": Slot(names("Corvo Delta Lyra Nova Orion Tanor Zeta", "X1 X2 Air Pro Go Max")),
        "price": price(),
        "weight": Slot(literal("light", "heavy"), verb=("[is|are] {}",), adjective=("{}",)),
        "screen": Slot(
            literal("11", "13", "15", "17"),
            verb=("[has|have] a(n) {}-inch screen",),
            adjective=("{}-inch",),
            after=("with a(n) {}-inch screen",),
        ),
        "memory": Slot(
            literal("4", "16", "32", "64"),
            verb=("[has|have] {} GB of memory", "[comes|come] with {} GB of memory"),
            after=("with {} GB of memory",),
        ),
        "battery": Slot(
            literal("6", "8", "10", "12"),
            verb=("[lasts|last] {} hours", "[runs|run] for {} hours"),
        ),
        "use": Slot(
            literal("school", "office work", "games", "travel", "design", "music"),
            verb=("[suits|suit] {}", "[is|are] good for {}"),
            after=("for {}",),
        ),
    },
    frames=NAMED,
    later=("It {vps}.", "It {vps}.", "The {noun} {vps}."),
)

FILM = Domain(
    name="film",
    label="genre",
    subject=("name",),
    nouns=("film", "movie"),
    slots={
        "name": Slot(
            names(
                "Silent Last Broken Distant Hidden Lost", "River Summer Garden Road Winter Star House Voice"
            )
        ),
        "year": Slot(
            numbers(1980, 2020, 5), verb=("came out in {}", "was released in {}"), after=("from {}",)
        ),
        "language": Slot(
            literal("French", "Italian", "Greek", "Danish", "Polish"),
            verb=("is in {}",),
            adjective=("{}",),
        ),
        "genre": Slot(
            literal("comedy", "drama", "thriller", "western", "horror", "romance"),
            verb=("[belongs|belong] to the {} genre",),
            adjective=("{}",),
        ),
        "director": Slot(
            literal("Anna Reed", "Paul Stone", "Maria Lund", "John Hale", "Eva Brand"),
            verb=("was directed by {}",),
            after=("by {}", "directed by {}"),
        ),
        "minutes": Slot(numbers(80, 140, 10), verb=("[lasts|last] {} minutes", "[runs|run] for {} minutes")),
        "critics": Slot(
            {"good": ("was praised by critics", "won good reviews"), "bad": ("won poor reviews",)},
            verb=("{}",),
        ),
    },
    frames=(
        *NAMED[:4],
        "If you want {np}, watch {name}.",
        "{name}, which {which}, is {np}.",
    ),
    later=("It {vps}.", "It {vps}.", "The {noun} {vps}."),
)

RECIPE = Domain(
    name="recipe",
    label="meal",
    subject=("name",),
    nouns=("dish", "treat"),
    slots={
        "name": Slot(
            names(
                "Spicy Creamy Smoky Sweet Baked",
                "Bean Lemon Rice Apple Carrot Onion",
                "Stew Soup Pie Noodles Cakes",
            )
        ),
        "effort": Slot(
            {"low": ("easy", "simple"), "high": ("difficult", "tricky")},
            verb=("[is|are] {} to make", "[is|are] {}"),
            adjective=("{}",),
        ),
        "diet": Slot(literal("vegan", "vegetarian", "gluten-free"), verb=("[is|are] {}",), adjective=("{}",)),
        "meal": Slot(
            literal("breakfast", "lunch", "dinner", "parties", "picnics"),
            verb=("[is|are] good for {}", "[suits|suit] {}"),
            after=("for {}",),
        ),
        "herb": Slot(
            literal("mint", "basil", "thyme", "ginger", "garlic"),
            verb=("[tastes|taste] of {}", "[contains|contain] {}"),
            after=("with {}", "made with {}"),
        ),
        "minutes": Slot(
            numbers(10, 60, 5),
            verb=("[takes|take] {} minutes", "[is|are] ready in {} minutes"),
            front=("in {} minutes",),
        ),
        "serves": Slot(
            literal("two", "four", "six", "eight"),
            verb=("[serves|serve] {}", "[feeds|feed] {} people"),
        ),
    },
    frames=(
        "{name} [is|are] {np}.",
        "{name} {vps}.",
        "{name}, {short}, {vps}.",
        "If you want {np}, make {name}.",
        "{name}, which {which}, [is|are] {np}.",
        "{front}, you can make {name}, {short}.",
    ),
    plurals=("Noodles", "Cakes"),
)
