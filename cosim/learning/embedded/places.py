"""Places to eat, to stay and to look around in."""

from cosim.learning.embedded.domain import (
    CITIES,
    COLOURS,
    NAMED,
    PLACED,
    Domain,
    Slot,
    area,
    literal,
    names,
    price,
)

RESTAURANT = Domain(
    name="restaurant",
    label="food",
    subject=("name",),
    nouns=("restaurant", "place"),
    slots={
        "name": Slot(names("The", COLOURS, "Spruce Lion Anchor Lantern Swan Mill Olive Plough Bell Rose")),
        "price": price(),
        "food": Slot(
            literal("Thai", "French", "Indian", "Italian", "Greek", "Turkish", "Mexican", "Asian"),
            verb=("[serves|serve] {} food", "[offers|offer] {} meals"),
            adjective=("{}", "{}"),
            after=("serving {} food", "with {} food"),
        ),
        "area": area(),
        "rating": Slot(
            literal("poor", "mixed", "good", "excellent"),
            verb=("[has|have] {} reviews", "[gets|get] {} reviews"),
            after=("with {} reviews",),
        ),
        "families": Slot(
            {"yes": ("good for families", "child-friendly"), "no": ("for adults only",)},
            verb=("[is|are] {}",),
        ),
    },
    frames=NAMED + PLACED,
    later=("It {vps}.", "It {vps}.", "The {noun} {vps}."),
)

HOTEL = Domain(
    name="hotel",
    label="style",
    subject=("name",),
    nouns=("hotel", "place to stay", "inn"),
    slots={
        "name": Slot(
            names("Hotel", "Astra Bellevue Corona Delta Eden Flora Grand Iris Luna Nova Opal Vista")
        ),
        "price": price(),
        "stars": Slot(
            literal("two", "three", "four", "five"),
            verb=("[has|have] {} stars",),
            adjective=("{}-star",),
            after=("with {} stars",),
        ),
        "style": Slot(
            literal("modern", "rustic", "quiet", "elegant", "old-fashioned", "small"),
            verb=("[is|are] {}",),
            adjective=("{}",),
        ),
        "area": area(),
        "view": Slot(
            literal("sea", "lake", "garden", "hills", "castle"),
            verb=("[has|have] a view of the {}", "[looks|look] out on the {}"),
            after=("with a view of the {}", "overlooking the {}"),
        ),
        "breakfast": Slot(
            {
                "yes": ("[includes|include] breakfast", "[serves|serve] free breakfast"),
                "no": ("[does|do] not serve breakfast",),
            },
            verb=("{}",),
        ),
        "pets": Slot(
            {"yes": ("[welcomes|welcome] pets", "[allows|allow] pets"), "no": ("[does|do] not allow pets",)},
            verb=("{}",),
        ),
    },
    frames=NAMED + PLACED,
    later=("It {vps}.", "It {vps}.", "The {noun} {vps}."),
)

MUSEUM = Domain(
    name="museum",
    label="type",
    subject=("name",),
    nouns=("museum", "place"),
    slots={
        "name": Slot(names("The", COLOURS, "House Hall Star Stone Road Museum")),
        "price": Slot(
            {"free": ("free",), "low": ("cheap", "low-priced")}, verb=("[is|are] {}",), adjective=("{}",)
        ),
        "style": Slot(literal("modern", "old", "stone", "small"), verb=("[is|are] {}",), adjective=("{}",)),
        "type": Slot(
            literal("films", "music", "art", "trains", "games", "toys", "stars", "books"),
            verb=("[shows|show] {}", "[is|are] full of {}"),
            after=("full of {}", "all about {}"),
        ),
        "area": area(),
        "city": Slot(names(CITIES), verb=("[is|are] in {}",), after=("in {}",), front=("in {}",)),
        "day": Slot(
            names("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
            verb=("[shuts|shut] on {}", "[is|are] shut on {}"),
        ),
        "families": Slot(
            {"yes": ("good for children", "for all ages"), "no": ("not for children",)},
            verb=("[is|are] {}",),
        ),
    },
    frames=NAMED + PLACED,
    later=("It {vps}.", "It {vps}.", "The {noun} {vps}."),
    num_optional=(1, 2, 2),
)
