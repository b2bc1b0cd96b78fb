"""Short notices: trains, the weather, jobs."""

from cosim.learning.embedded.domain import CITIES, Domain, Slot, literal, names, numbers

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"

TRAIN = Domain(
    name="train",
    label="type",
    subject=("to", "time"),
    nouns=("train",),
    slots={
        "time": Slot(
            literal(*(f"{hour}:{minute}" for hour in range(6, 23) for minute in ("05", "20", "45")))
        ),
        "to": Slot(names(CITIES)),
        "from": Slot(
            literal("London", "Oxford", "Dover", "Lincoln"),
            verb=("[starts|start] in {}", "[comes|come] from {}"),
            after=("from {}",),
        ),
        "type": Slot(
            literal("express", "local", "night", "steam"),
            verb=("[is|are] a(n) {} service", "[runs|run] as a(n) {} service"),
            adjective=("{}", "{}"),
        ),
        "platform": Slot(numbers(1, 12), verb=("[leaves|leave] from platform {}",)),
        "fare": Slot(numbers(10, 90, 10), verb=("[costs|cost] {} pounds",)),
        "minutes": Slot(numbers(15, 95, 10), verb=("[takes|take] {} minutes",)),
        "food": Slot(
            {
                "yes": ("[serves|serve] food", "[has|have] a restaurant car"),
                "no": ("[does|do] not serve food",),
            },
            verb=("{}",),
        ),
    },
    frames=(
        "The {time} {bare} to {to} {vps}.",
        "There is {short} to {to} at {time}.",
        "At {time}, {short} leaves for {to}.",
        "The train to {to} leaves at {time}.",
        "Passengers for {to} can take the {time} {bare}.",
        "The {time} train to {to}, which {which}, {vps}.",
    ),
    later=("It {vps}.", "It {vps}.", "The train {vps}."),
    relative=(),
)

WEATHER = Domain(
    name="weather",
    label="sky",
    subject=("city", "day"),
    nouns=("weather",),
    slots={
        "city": Slot(names(CITIES + " London Oxford Dover Lincoln Paris Rome Vienna Berlin Oslo Madrid")),
        "day": Slot(names(_DAYS)),
        "sky": Slot(
            {
                "sunny": ("be sunny", "see a lot of sun"),
                "cloudy": ("be cloudy", "see grey clouds"),
                "rainy": ("be rainy", "see some rain"),
                "foggy": ("be foggy", "see thick fog"),
                "snowy": ("be snowy", "see some snow"),
                "stormy": ("be stormy", "see storms"),
            },
            verb=("{}",),
        ),
        "high": Slot(
            numbers(7, 18),
            verb=("have a high of {} degrees", "reach {} degrees"),
        ),
        "low": Slot(
            numbers(2, 6),
            verb=("have a low of {} degrees", "cool down to {} degrees"),
        ),
        "wind": Slot(
            literal("north", "south", "east", "west"),
            verb=("have wind from the {}", "get a(n) {} wind"),
        ),
        "air": Slot(
            {"humid": ("be humid", "feel humid"), "dry": ("be dry", "feel dry"), "fresh": ("feel fresh",)},
            verb=("{}",),
        ),
    },
    frames=(
        "On {day}, {city} will {vps}.",
        "{city} will {vps} on {day}.",
        "{day} in {city} will {vps}.",
        "Here is the weather for {city} on {day}.",
        "Expect {city} to {vps} on {day}.",
    ),
    later=("It will {vps}.", "The day will {vps}."),
)

JOB = Domain(
    name="job",
    label="role",
    subject=("company", "role"),
    nouns=("{role}",),
    slots={
        "company": Slot(names("Astra Corvo Lyra Nova Orion Stone Hale Brand", "Foods Homes Labs Bank Media")),
        "hours": Slot(
            literal("full-time", "part-time"),
            verb=("is {}",),
            adjective=("{}",),
        ),
        "role": Slot(literal("nurse", "cook", "driver", "teacher", "engineer", "writer", "artist", "guard")),
        "city": Slot(names(CITIES), verb=("is in {}", "is based in {}"), after=("in {}",), front=("in {}",)),
        "pay": Slot(numbers(12, 40), verb=("pays {} pounds an hour",), after=("at {} pounds an hour",)),
        "start": Slot(
            names("January March April May June July October"),
            verb=("starts in {}", "begins in {}"),
            after=("from {}",),
        ),
        "home": Slot(
            {"yes": ("can be done from home",), "no": ("is done on site", "cannot be done from home")},
            verb=("{}",),
        ),
        "skills": Slot(
            {"yes": ("asks for experience", "needs experience"), "no": ("needs no experience",)},
            verb=("{}",),
        ),
    },
    frames=(
        "{company} is looking for {np}.",
        "{company} wants {np}.",
        "{company} needs {np}.",
        "{company} has a job for {np}.",
        "There is a job for {np} at {company}.",
        "{front}, {company} is looking for {np}.",
        "The job as {np} at {company} {vps}.",
    ),
    later=("It {vps}.", "The job {vps}.", "The work {vps}."),
    relative=(),
)
